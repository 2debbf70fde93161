"""The server that tutorials start from: Flask, a torch model in every gunicorn worker, PIL.

Run as `gunicorn benchmarks.plain_server:app` by `benchmarks.serving`; PLAIN_WEIGHTS names the file.
"""

import io
import os

import torch
from flask import Flask, Response, jsonify, request
from PIL import Image
from torchvision import transforms
from torchvision.models import get_model

torch.set_num_threads(1)  # with torch's default, two workers on two cores are several times slower
weights = torch.load(os.environ["PLAIN_WEIGHTS"], weights_only=True)
architecture = "resnet50" if "layer1.0.conv3.weight" in weights else "resnet18"
network = get_model(architecture, num_classes=133)
network.load_state_dict(weights)
network.eval()
transform = transforms.Compose(
    [
        transforms.Resize(256),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
)
app = Flask(__name__)


@app.get("/ping")
def ping() -> Response:
    """The model is loaded when the worker starts."""
    return Response()


@app.post("/invocations")
def invocations() -> Response:
    """One image in, one number for each class out."""
    image = Image.open(io.BytesIO(request.get_data())).convert("RGB")
    with torch.inference_mode():
        return jsonify(network(transform(image)[None])[0].softmax(0).tolist())
