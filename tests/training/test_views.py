import re
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from opt_ml import OptMl, write_images

from container.errors import UserError
from container.hyperparameters import Hyperparameters
from container.images import Preprocessing
from container.training import synchronised
from container.training.augmentation import Augmentation, progressive_side
from container.training.decoded import DecodedImages
from container.training.device_views import as_canvas, as_tensor, resample
from container.training.pixels import PixelSource
from container.training.preparation import check_batches
from container.training.source import Share


@settings(max_examples=30, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(40, 130), st.integers(40, 130)), min_size=1, max_size=4),
    crop_scale=st.floats(0.05, 1),
    side=st.integers(16, 64),
    seed=st.integers(0, 1000),
)
def test_a_batch_of_views_made_at_once_is_what_pillow_makes_one_by_one(
    shapes: list[tuple[int, int]], crop_scale: float, side: int, seed: int
) -> None:
    augmentation = Augmentation(32, crop_scale, flip=True)
    noise = np.random.default_rng(seed)
    images = [noise.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
    generators = [np.random.default_rng((seed, index)) for index in range(len(images))]
    expected = [augmentation(*pair, side) for pair in zip(images, generators, strict=True)]
    boxes = [
        augmentation.box(height, width, np.random.default_rng((seed, index)))
        for index, (height, width) in enumerate(shapes)
    ]
    views = resample(as_canvas(images), as_tensor(images, boxes), side)
    assert views.dtype == torch.uint8
    difference = np.abs(views.numpy().astype(int) - np.stack(expected).astype(int))
    # Pillow rounds between its two passes, and its weights are integers.
    assert difference.max() <= 2


def test_labels_stay_on_the_cpu_when_views_are_made_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Class weights are added up by labels, which a GPU would have to be waited for.
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    images = (np.zeros((40, 50, 3), np.uint8),) * 4
    decoded = DecodedImages(images, np.array([0, 1, 1, 0]), (Path("image.jpg"),) * 4, ())
    source = PixelSource(
        decoded,
        Augmentation(32, 0.5, flip=True),
        Preprocessing.for_image_size(32),
        Share(),
        torch.device("meta"),
    )
    for views, labels in source._made_by_the_gpu([np.array([0, 1]), np.array([2, 3])], (0, 0), 32):
        assert (views.device.type, labels.device.type) == ("meta", "cpu")
        assert views.shape == (2, 32, 32, 3)


@pytest.mark.parametrize("epochs", [1, 2, 7, 100])
def test_images_grow_to_their_full_side(epochs: int) -> None:
    sides = [progressive_side(224, epoch, epochs) for epoch in range(epochs)]
    assert sides == sorted(sides)
    assert sides[-1] == 224
    assert epochs == 1 or sides[0] == 128
    assert progressive_side(32, 0, 10) == 32


def test_progressive_training_ends_on_whole_images(opt_ml: OptMl) -> None:
    write_images(opt_ml.channel("train"), count=12)
    options = {"image-size": "64", "progressive": "true", "epochs": "2"}
    result = opt_ml.train(options)
    assert result.returncode == 0, result.stderr
    assert opt_ml.facts()["preprocessing"]["image_size"] == 64


@pytest.mark.parametrize(
    ("options", "views", "without_effect"),
    [
        ({}, 2, ()),
        ({"flip": "false"}, 1, ()),
        ({"crop-scale": "0.8", "progressive": "true"}, 2, ("crop-scale", "progressive")),
        ({"crop-scale": "0.8", "views": "3"}, 3, ()),
    ],
)
def test_settings_of_crops_that_no_view_has_are_named(
    opt_ml: OptMl, options: dict[str, str], views: int, without_effect: tuple[str, ...]
) -> None:
    write_images(opt_ml.channel("train"), count=10)
    done = opt_ml.train({"trainable": "head", "profile": "false"} | options)
    assert done.returncode == 0, done.stderr
    assert f", {views} views of each training image" in done.stdout
    assert f"{14 * views + 6} computed" in done.stdout
    named = re.findall(r"(\S+) has no effect", done.stdout)
    assert tuple(named) == without_effect


@pytest.mark.parametrize(
    ("images", "options", "enough"),
    [
        (14, {"batch_size": 1}, False),
        (14, {"batch_size": 2}, True),
        (15, {"batch_size": 2}, False),
        (15, {"batch_size": 2, "trainable": "layer4"}, False),
        (4, {"batch_size": 3}, True),
        (15, {"batch_size": 1, "trainable": "head"}, True),
        (15, {"batch_size": 1, "image_size": 64}, True),
        (15, {"batch_size": 1, "image_size": 64, "progressive": True}, False),
    ],
)
def test_a_batch_of_one_image_needs_more_than_one_point_of_it(
    images: int, options: dict[str, Any], enough: bool
) -> None:
    given = replace(Hyperparameters(trainable="all", image_size=32), **options)
    with nullcontext() if enough else pytest.raises(UserError, match="makes a batch of one of"):
        check_batches(images, given)


@pytest.mark.parametrize("trainable", ["all", "layer4"])
def test_a_batch_that_is_too_small_is_a_sentence(opt_ml: OptMl, trainable: str) -> None:
    write_images(opt_ml.channel("train"), count=7)
    options = {"batch-size": "1", "trainable": trainable, "profile": "false"}
    assert opt_ml.train(options).returncode == 1
    assert opt_ml.failure().endswith("Set batch-size to 3 or more, or a larger image-size.")
    assert opt_ml.train(options | {"batch-size": "3"}).returncode == 0


def test_a_single_value_leaves_statistics_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synchronised, "_total", lambda values: values)  # one process
    norm = synchronised.SynchronisedBatchNorm2d(3)
    norm(torch.ones(1, 3, 1, 1))
    assert norm.running_var is not None
    assert norm.running_var.tolist() == pytest.approx([0.9] * 3)
