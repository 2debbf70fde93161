"""The frozen backbone as a fast function from images to features."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.models import ResNet

from container import openvino_resnet, processors
from container.images import Preprocessing
from container.model import as_arrays, normalise

BATCH_SIZE_ON_A_CPU = 8
BATCH_SIZE_ON_A_GPU = 256


class Backbone:
    """The network without its head, in the fastest arithmetic that was asked for.

    On a CPU it is an OpenVINO model, on a GPU the torch network itself.
    """

    def __init__(
        self, network: ResNet, architecture: str, preprocessing: Preprocessing, precision: str
    ) -> None:
        self._preprocessing = preprocessing
        self._run: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
        if next(network.parameters()).is_cuda:
            self.batch_size = BATCH_SIZE_ON_A_GPU
            self._network = network.eval()
            self._bfloat16 = precision != "float32"
            self.name = f"torch {'bfloat16' if self._bfloat16 else 'float32'}"
            self._run = self._run_torch
            return
        self.batch_size = BATCH_SIZE_ON_A_CPU
        model = openvino_resnet.build_model(
            architecture, preprocessing, as_arrays(network), batch=self.batch_size, head=False
        )
        compiled = openvino_resnet.compile_model(
            model, precision=precision, threads=processors.available(), streams=1
        )
        self.name = f"openvino {openvino_resnet.arithmetic(compiled)}"
        self._request: Any = compiled.create_infer_request()
        self._run = self._run_openvino

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features (N, channels) of at most `batch_size` images (N, size, size, 3)."""
        return self._run(images)

    def _run_openvino(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        # The graph has one batch size; what a short batch leaves over is computed for nothing.
        self._request.get_input_tensor().data[: len(images)] = images
        self._request.infer()
        features: NDArray[np.float32] = self._request.get_output_tensor().data[: len(images)].copy()
        return features

    @torch.inference_mode()
    def _run_torch(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        inputs = normalise(torch.from_numpy(images).cuda(), self._preprocessing)
        network = self._network
        with torch.autocast("cuda", torch.bfloat16, enabled=self._bfloat16):
            data = network.maxpool(network.relu(network.bn1(network.conv1(inputs))))
            for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
                data = stage(data)
            features = network.avgpool(data).flatten(1)
        result: NDArray[np.float32] = features.float().cpu().numpy()
        return result
