"""The network that every peer serves: from an image file's bytes to one probability per class."""

import io
import os

import torch
from PIL import Image
from torchvision import transforms
from torchvision.models import get_model

_prepare = transforms.Compose(
    [
        transforms.Resize(256),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
)


class Network:
    """torchvision's network in eager mode, on one thread, as one of two workers."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        weights = torch.load(os.environ["PEER_WEIGHTS"], weights_only=True)
        architecture = "resnet50" if "layer1.0.conv3.weight" in weights else "resnet18"
        self._network = get_model(architecture, num_classes=133)
        self._network.load_state_dict(weights)
        self._network.eval()

    def __call__(self, data: bytes) -> list[float]:
        """One number per class."""
        image = Image.open(io.BytesIO(data)).convert("RGB")
        with torch.inference_mode():
            numbers: list[float] = self._network(_prepare(image)[None])[0].softmax(0).tolist()
            return numbers
