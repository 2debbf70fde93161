"""The layout of the ResNets as data: every convolution's name, shape and stride. Stdlib only.

Names are torchvision's, so the layout tells which tensors an artifact holds; serving builds its
graph from it without torch. The strides are those of torchvision ("ResNet v1.5").
https://github.com/pytorch/vision/blob/main/torchvision/models/resnet.py
"""

from collections.abc import Iterator
from dataclasses import dataclass

_STAGE_WIDTHS = (64, 128, 256, 512)


@dataclass(frozen=True)
class Convolution:
    """A convolution without bias, and the batch normalisation that follows it."""

    name: str
    norm: str
    inputs: int
    outputs: int
    kernel: int
    stride: int = 1

    @property
    def padding(self) -> int:
        """Pixels of zeros on each side."""
        return self.kernel // 2


@dataclass(frozen=True)
class Block:
    """A residual block: its convolutions in order, and the one on its shortcut, if any."""

    convolutions: tuple[Convolution, ...]
    shortcut: Convolution | None


@dataclass(frozen=True)
class Layout:
    """A whole network: stem, blocks, and a linear layer `fc` on `features` averaged channels."""

    stem: Convolution
    blocks: tuple[Block, ...]
    features: int

    def stages(self, count: int) -> tuple[Block, ...]:
        """The blocks of the first `count` of the four stages."""
        names = tuple(f"layer{number}." for number in range(1, count + 1))
        return tuple(b for b in self.blocks if b.convolutions[0].name.startswith(names))

    def convolutions(self) -> Iterator[Convolution]:
        """Every convolution in the network."""
        yield self.stem
        for block in self.blocks:
            yield from block.convolutions
            if block.shortcut:
                yield block.shortcut

    def shapes(self, classes: int) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor that inference needs, by torchvision's names."""
        shapes: dict[str, tuple[int, ...]] = {}
        for each in self.convolutions():
            shapes[f"{each.name}.weight"] = (each.outputs, each.inputs, each.kernel, each.kernel)
            for part in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"{each.norm}.{part}"] = (each.outputs,)
        shapes["fc.weight"] = (classes, self.features)
        shapes["fc.bias"] = (classes,)
        return shapes


_STAGES = {
    # architecture: blocks in each stage, whether they are bottlenecks
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
    "resnet101": ((3, 4, 23, 3), True),
    "resnet152": ((3, 8, 36, 3), True),
}


def stages(architecture: str) -> tuple[tuple[int, ...], bool]:
    """How many blocks each stage has, and whether they are bottlenecks."""
    return _STAGES[architecture]


def layout(architecture: str) -> Layout:
    """The layout of one of the ResNets that `hyperparameters.RESNETS` names."""
    depths, bottleneck = stages(architecture)
    blocks = []
    channels = 64
    for stage, (depth, width) in enumerate(zip(depths, _STAGE_WIDTHS, strict=True)):
        for index in range(depth):
            stride = 2 if stage > 0 and index == 0 else 1
            block = _block(f"layer{stage + 1}.{index}", channels, width, stride, bottleneck)
            channels = block.convolutions[-1].outputs
            blocks.append(block)
    return Layout(Convolution("conv1", "bn1", 3, 64, 7, 2), tuple(blocks), channels)


def _block(name: str, inputs: int, width: int, stride: int, bottleneck: bool) -> Block:
    outputs = 4 * width if bottleneck else width
    if bottleneck:
        shapes = [(inputs, width, 1, 1), (width, width, 3, stride), (width, outputs, 1, 1)]
    else:
        shapes = [(inputs, width, 3, stride), (width, outputs, 3, 1)]
    convolutions = tuple(
        Convolution(f"{name}.conv{number}", f"{name}.bn{number}", *shape)
        for number, shape in enumerate(shapes, 1)
    )
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = Convolution(
            f"{name}.downsample.0", f"{name}.downsample.1", inputs, outputs, 1, stride
        )
    return Block(convolutions, shortcut)
