"""The trained network's int8 form: calibrated, measured against it, and kept if it loses little."""

import contextlib
import io
import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from container import artifact, int8, processors
from container.artifact import Int8, reference_images
from container.images import Pixels, Preprocessing, center_crop
from container.model import as_arrays
from container.openvino_resnet import build_model, compile_model
from container.progress import say
from container.training.decoded import SplitImages

CALIBRATION_IMAGES = 128
MEASURED_IMAGES = 1000
"""More would hold up the training's end for longer than they would tell."""

Int8Form = tuple[Int8, artifact.Weights]


def quantize(
    network: nn.Module,
    architecture: str,
    preprocessing: Preprocessing,
    training: SplitImages,
    validation: SplitImages,
    allowed_loss: float,
) -> Int8Form | None:
    """The int8 form and what was measured of it; None if it loses more than `allowed_loss`.

    `allowed_loss` is in percentage points of accuracy on the validation images; 0 makes no int8
    form, and neither do fewer images than could tell such a loss.
    """
    if allowed_loss == 0:
        return None
    images = _evenly(len(validation), MEASURED_IMAGES)
    if len(images) * allowed_loss < 100:
        say(
            f"No int8 form: {len(images)} validation images cannot tell a loss of {allowed_loss:g} "
            "points."
        )
        return None
    started = time.monotonic()
    size = preprocessing.image_size
    model = build_model(architecture, preprocessing, as_arrays(network), batch=1, head=True)
    calibration = (
        center_crop(training.images[index], size)
        for index in _evenly(len(training), CALIBRATION_IMAGES)
    )
    tensors = _tensors(_quantized(model, list(calibration)))
    rounded = build_model(architecture, preprocessing, dict(tensors), batch=1, head=True)
    before, after = _Scorer(model, "auto"), _Scorer(rounded, "int8")
    right = np.zeros(2)
    for index in images:
        square = center_crop(validation.images[index], size)
        truth = validation.labels[index]
        right += [scorer(square).argmax() == truth for scorer in (before, after)]
    float_accuracy, accuracy = right / len(images)
    loss = 100 * (float_accuracy - accuracy)
    kept = loss <= allowed_loss + 1e-9
    say(
        f"int8 has {100 * accuracy:.1f}% of {len(images)} validation images right, and without it "
        f"{100 * float_accuracy:.1f}% are: {'kept' if kept else 'left out'} "
        f"({time.monotonic() - started:.0f} s)."
    )
    if not kept:
        return None
    own = tuple(tuple(map(float, after(image))) for image in reference_images(preprocessing))
    return Int8(float(accuracy), float(float_accuracy), len(images), own), tensors


class _Scorer:
    """A compiled network, from one image to its logits."""

    def __init__(self, model: Any, precision: str) -> None:
        compiled = compile_model(
            model, precision=precision, threads=processors.available(), streams=1
        )
        self._request = compiled.create_infer_request()

    def __call__(self, square: Pixels) -> NDArray[np.float32]:
        self._request.get_input_tensor().data[0] = square
        self._request.infer()
        scores: NDArray[np.float32] = self._request.get_output_tensor().data[0].copy()
        return scores


def _evenly(length: int, most: int) -> NDArray[np.int64]:
    """At most so many indices, spread over the whole: images lie in the order of their classes."""
    return np.unique(np.linspace(0, length - 1, min(length, most)).round().astype(np.int64))


def _quantized(model: Any, images: list[Pixels]) -> Any:
    # Read while NNCF is imported: otherwise it reports its use to its makers over the network.
    os.environ.setdefault("NNCF_CI", "1")
    import nncf

    nncf.set_log_level("ERROR")
    with contextlib.redirect_stdout(io.StringIO()):  # its progress bars
        return nncf.quantize(
            model,
            nncf.Dataset([image[np.newaxis] for image in images]),
            subset_size=len(images),
        )


def _tensors(model: Any) -> dict[str, NDArray[Any]]:
    """What NNCF has worked out, by the names of `container.int8`."""
    return dict(_found(model))


def _found(model: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    for operator in model.get_ordered_ops():
        kind, name = operator.get_type_name(), operator.get_friendly_name()
        inputs = [value.get_node() for value in operator.input_values()]
        if kind == "FakeQuantize":
            low, high, low_out, high_out = (float(each.get_data()) for each in inputs[1:])
            if operator.get_levels() != 256 or (low, high) != (low_out, high_out):
                raise RuntimeError(f"NNCF rounds {name} in a way that is not known here")
            point = inputs[0].get_friendly_name()
            yield f"{point}.range", np.array([low, high], np.float32)
        elif kind in ("Convolution", "MatMul"):
            levels, scale = (value.get_node() for value in inputs[1].input_values())
            layer = int8.layer_of(name)
            constant = levels.input_value(0).get_node()
            yield f"{layer}.weight", np.array(constant.get_data())
            yield f"{layer}.scale", np.array(scale.get_data(), np.float32)
        elif kind == "Add" and inputs[1].get_type_name() == "Constant":
            yield f"{name}.bias", np.array(inputs[1].get_data(), np.float32)
