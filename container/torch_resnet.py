"""torchvision's ResNets, in less time: the same tensors, and the same numbers but for one rounding.

Outside its convolutions a training step of all layers is bound by memory. On a CPU in bfloat16 an
operation in place takes twice as long as one that writes elsewhere, and torchvision's stem
rectifies four times the values that its pooling leaves.
"""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models import ResNet
from torchvision.models.resnet import BasicBlock, Bottleneck

from container import resnet
from container.small_maps import SmallMapConvolution

FIRST_SHARE = 0.35
"""Of what a block computes, the share that is added to what came in, when training starts from
scratch. Goyal et al. (2017, section 5.1) begin at 0, which hides the weights before it from the
first gradient; with this the layers' variances stay within a factor of ten of each other."""


class _BasicBlock(BasicBlock):  # type: ignore[misc]  # torchvision has no types
    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        return _add(self, self.bn2(self.conv2(out)), x)


class _Bottleneck(Bottleneck):  # type: ignore[misc]
    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        return _add(self, self.bn3(self.conv3(out)), x)


def _add(block: BasicBlock | Bottleneck, out: Tensor, x: Tensor) -> Tensor:
    """The end of a block: what it computed, added to what came in."""
    added: Tensor = block.relu(out + (x if block.downsample is None else block.downsample(x)))
    return added


class _ResNet(ResNet):  # type: ignore[misc]
    def _forward_impl(self, x: Tensor) -> Tensor:
        # The largest value is the same before and after; so is where its gradient goes.
        out = self.relu(self.maxpool(self.bn1(self.conv1(x))))
        out = self.layer4(self.layer3(self.layer2(self.layer1(out))))
        logits: Tensor = self.fc(torch.flatten(self.avgpool(out), 1))
        return logits


def build(architecture: str, classes: int, *, from_scratch: bool = False) -> ResNet:
    """A randomly initialised network, as torchvision's own builder would draw it.

    With `from_scratch` each block begins by little more than handing on what it is given, so that
    deep networks learn from the first step.
    """
    depths, bottleneck = resnet.stages(architecture)
    network = _ResNet(_Bottleneck if bottleneck else _BasicBlock, list(depths), classes)
    if from_scratch:
        for block in network.modules():
            if isinstance(block, BasicBlock | Bottleneck):
                last = block.bn3 if isinstance(block, Bottleneck) else block.bn2
                nn.init.constant_(last.weight, FIRST_SHARE)
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    for block in network.layer4:
        for name, module in list(block.named_children()):
            if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
                setattr(block, name, SmallMapConvolution.of(module))
    return network


def from_arrays(architecture: str, classes: int, weights: dict[str, NDArray[Any]]) -> ResNet:
    """A network on the CPU, in evaluation mode, with an artifact's weights; empties their dict."""
    with torch.device("meta"):  # no time is spent on initial weights
        network = build(architecture, classes)
    state = {
        # The counters of training steps are not in the artifact.
        name: torch.from_numpy(weights.pop(name)) if name in weights else torch.tensor(0)
        for name in network.state_dict()
    }
    network.load_state_dict(state, assign=True)
    return network.eval()
