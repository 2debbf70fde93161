"""The functions that the users of SageMaker's PyTorch containers write."""

import json

from network import Network


def model_fn(model_dir: str) -> Network:
    """Load the network in a worker."""
    return Network()


def input_fn(body: bytes, content_type: str) -> bytes:
    """The image's bytes as they came."""
    return bytes(body)


def predict_fn(image: bytes, network: Network) -> list[float]:
    """One number per class."""
    numbers: list[float] = network(image)
    return numbers


def output_fn(numbers: list[float], accept: str) -> str:
    """The numbers as JSON."""
    return json.dumps(numbers)
