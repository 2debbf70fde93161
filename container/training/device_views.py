"""Random views of a whole batch at once, cropped, resized and mirrored on the GPU.

Each view is two matrix products, one along each axis, whose weights are those of Pillow's
antialiased bilinear filter: the views are the ones that Augmentation makes on the CPU.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from container.images import Pixels
from container.training.augmentation import Box


def as_canvas(images: Sequence[Pixels]) -> Tensor:
    """Images of any size in the top left corners of one uint8 tensor (N, height, width, 3).

    It lies in pinned memory, so that it can travel while the GPU works.
    """
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    canvas = torch.zeros(
        (len(images), height, width, 3), dtype=torch.uint8, pin_memory=torch.cuda.is_available()
    )
    array = canvas.numpy()
    for index, image in enumerate(images):
        array[index, : image.shape[0], : image.shape[1]] = image
    return canvas


def as_tensor(images: Sequence[Pixels], boxes: Sequence[Box]) -> Tensor:
    """What `resample` must know of each image: two rows of start, length, extent, and direction."""
    rows = [
        [
            (box.left, box.width, image.shape[1], 1 - 2 * box.mirrored),
            (box.top, box.height, image.shape[0], 1),
        ]
        for image, box in zip(images, boxes, strict=True)
    ]
    tensor = torch.from_numpy(np.array(rows, np.float32))
    return tensor.pin_memory() if torch.cuda.is_available() else tensor


def resample(canvas: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Views, uint8 (N, side, side, 3), of a canvas and of the boxes that go with it."""
    columns = _weights(boxes[:, 0], side, canvas.shape[2])
    rows = _weights(boxes[:, 1], side, canvas.shape[1])
    planes = canvas.permute(0, 3, 1, 2).float()
    views = rows[:, None] @ (planes @ columns[:, None].transpose(2, 3))
    return views.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _weights(axis: Tensor, side: int, length: int) -> Tensor:
    """How much each pixel of an axis adds to each pixel of a view, (N, side, length)."""
    start, extent, valid, direction = (axis[:, index, None, None] for index in range(4))
    places = torch.arange(side, device=axis.device)[None, :, None] + 0.5
    places = torch.where(direction > 0, places, side - places)
    scale = extent / side
    centres = start + places * scale
    pixels = torch.arange(length, device=axis.device)[None, None, :] + 0.5
    weights = (1 - (pixels - centres).abs() / scale.clamp(min=1)).clamp(min=0)
    weights = weights * (pixels < valid)
    return weights / weights.sum(2, keepdim=True)
