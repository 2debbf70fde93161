"""The int8 form of a network: what its tensors are called, and which there must be. No torch.

It lies beside the weights in a safetensors file of its own, so that a server that runs it need
not read the others. Of a layer `NAME`, which is a convolution with its normalisation folded in, or
`fc`, it holds `NAME.weight` (int8), `NAME.scale` (float32, what the weights of one output channel
are multiplied by) and `NAME.bias`. `POINT.range` holds the smallest and the largest activation at a
point of the graph, between which there are 256 levels; without one it stays as precise as it is.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from container.errors import UserError
from container.resnet import layout

Tensors = Mapping[str, NDArray[Any]]

INPUT = "input"
"""The point after the mean was subtracted from the image."""
FEATURES = "features"
"""The point before the last layer."""


def after_activation(convolution: str) -> str:
    """The point after the ReLU that follows a convolution."""
    return f"{convolution}.relu"


def after_sum(convolution: str) -> str:
    """The point after the ReLU of the block that ends with a convolution."""
    return f"{convolution}.sum"


def product(layer: str) -> str:
    """A layer's operator before its bias is added, which is the point named as the layer."""
    return f"{layer}.product"


def layer_of(operator: str) -> str:
    """The layer that `product` was called with."""
    return operator.removesuffix(".product")


def check(architecture: str, classes: int, tensors: Tensors) -> None:
    """Refuse what does not fit the architecture. Raises UserError."""
    expected = dict(_layers(architecture, classes))
    for name, (shape, kind) in expected.items():
        tensor = tensors.get(name)
        if tensor is None or tensor.shape != shape or tensor.dtype != kind:
            raise UserError(f"The int8 weights are not those of a {architecture}: {name} differs.")
    points = set(_points(architecture))
    for name in tensors.keys() - expected.keys():
        values, point = tensors[name], name.removesuffix(".range")
        usable = values.shape == (2,) and values.dtype == np.float32
        if point not in points or not usable or not -np.inf < values[0] < values[1] < np.inf:
            raise UserError(f"The int8 weights hold {name!r}, which no {architecture} has.")


def _layers(
    architecture: str, classes: int
) -> Iterator[tuple[str, tuple[tuple[int, ...], type[np.generic]]]]:
    network = layout(architecture)
    for each in network.convolutions():
        shape = (each.outputs, each.inputs, each.kernel, each.kernel)
        yield f"{each.name}.weight", (shape, np.int8)
        yield f"{each.name}.scale", ((each.outputs, 1, 1, 1), np.float32)
        yield f"{each.name}.bias", ((1, each.outputs, 1, 1), np.float32)
    yield "fc.weight", ((classes, network.features), np.int8)
    yield "fc.scale", ((classes, 1), np.float32)
    yield "fc.bias", ((1, classes), np.float32)


def _points(architecture: str) -> Iterator[str]:
    yield INPUT
    yield FEATURES
    for each in layout(architecture).convolutions():
        yield from (each.name, after_activation(each.name), after_sum(each.name))
