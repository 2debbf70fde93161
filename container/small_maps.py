"""Convolutions of small maps, whose gradients take less time on a CPU in bfloat16.

oneDNN computes the gradient of a convolution's weights position by position of the map. Where a map
has few of them, as in a ResNet's last stage, one product of two large matrices takes half as long.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

MOST_POSITIONS = 49
"""Of a map that counts as small: the last stage's, of images of up to 224 pixels.

Both gradients together take 0.3 to 0.95 of oneDNN's time for 1 to 49 positions and batches of 8 to
128 images, and in one case of 30 it is 1.03. For 64 they take 0.7 to 1.2, for 196 up to 2.7.
"""


class SmallMapConvolution(nn.Conv2d):
    """A convolution without bias, groups or dilation: torch's own, but for that gradient."""

    @classmethod
    def of(cls, convolution: nn.Conv2d) -> "SmallMapConvolution":
        """The same convolution, with the same weights."""
        with torch.device("meta"):  # no random number is drawn, no memory taken
            made = cls(
                convolution.in_channels,
                convolution.out_channels,
                convolution.kernel_size,  # type: ignore[arg-type]  # always a pair
                convolution.stride,  # type: ignore[arg-type]
                convolution.padding,  # type: ignore[arg-type]
                bias=False,
            )
        made.weight = convolution.weight
        return made

    def forward(self, maps: Tensor) -> Tensor:
        """Convolve (N, channels, height, width)."""
        if self._is_faster(maps):
            half = torch.bfloat16  # as autocast would have it
            convolved: Tensor = _Convolution.apply(
                maps.to(half), self.weight.to(half), self.stride, self.padding
            )
            return convolved
        return super().forward(maps)

    def _is_faster(self, maps: Tensor) -> bool:
        # Of the outcome: what is padded makes up for the kernel.
        height, width = (
            -(-size // step) for size, step in zip(maps.shape[2:], self.stride, strict=True)
        )
        return (
            maps.device.type == "cpu"
            and height * width <= MOST_POSITIONS
            and torch.is_grad_enabled()
            and self.weight.requires_grad
            and torch.is_autocast_enabled("cpu")
        )


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        maps: Tensor,
        weight: Tensor,
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> Tensor:
        context.save_for_backward(maps, weight)
        context.stride, context.padding = stride, padding
        return functional.conv2d(maps, weight, None, stride, padding)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        maps, weight = context.saved_tensors
        stride, padding = context.stride, context.padding
        for_maps = for_weight = None
        if context.needs_input_grad[0]:
            for_maps = torch.ops.aten.convolution_backward(
                gradient,
                maps,
                weight,
                None,
                stride,
                padding,
                (1, 1),
                False,
                (0, 0),
                1,
                (True, False, False),
            )[0]
        if context.needs_input_grad[1]:
            for_weight = _weight_gradient(gradient, maps, weight, stride, padding)
        return for_maps, for_weight, None, None


def _weight_gradient(
    gradient: Tensor,
    maps: Tensor,
    weight: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> Tensor:
    """What every output's gradient says of every weight, as one product; channels lie innermost."""
    outputs, inputs, height, width = weight.shape
    batch, _, rows, columns = gradient.shape
    padded = functional.pad(
        maps.permute(0, 2, 3, 1), (0, 0, padding[1], padding[1], padding[0], padding[0])
    )
    image, row, column, channel = padded.stride()
    # What each weight is multiplied with, for each position of the output.
    windows = padded.as_strided(
        (batch, rows, columns, height, width, inputs),
        (image, row * stride[0], column * stride[1], row, column, channel),
    ).reshape(batch * rows * columns, height * width * inputs)
    product = gradient.permute(0, 2, 3, 1).reshape(-1, outputs).t() @ windows
    return product.view(outputs, height, width, inputs).permute(0, 3, 1, 2)
