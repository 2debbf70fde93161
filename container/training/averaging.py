"""A moving average of the weights: often a better network than the last step's.

Exponential weights: https://pytorch.org/docs/stable/optim.html#weight-averaging-swa-and-ema
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """An exponential moving average of all of a network's floating-point tensors.

    It is held as plain tensors: a copy of the network would carry smdebug's hooks with it.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        # These share their memory with the network's own tensors.
        self._live = {
            name: tensor
            for name, tensor in network.state_dict().items()
            if tensor.is_floating_point()
        }
        self.state = {name: tensor.clone() for name, tensor in self._live.items()}
        """The averages by name, as `state_dict` names them."""

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after one more step, counted from 0.

        The first steps weigh more, or the random start would stay in the average for long.
        """
        share = 1 - min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.state.values()), list(self._live.values()), share)

    def resume(self, state: Mapping[str, Tensor]) -> None:
        """Go on from the averages in a checkpoint."""
        for name, tensor in self.state.items():
            tensor.copy_(state[name])

    @torch.no_grad()
    def apply(self) -> None:
        """Give the network the averages for good."""
        torch._foreach_copy_(list(self._live.values()), list(self.state.values()))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The network has the averages in here, and its own weights again afterwards."""
        own = {name: tensor.clone() for name, tensor in self._live.items()}
        self.apply()
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(list(self._live.values()), list(own.values()))
