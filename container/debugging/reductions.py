"""Several numbers out of one tensor in as few passes over it as they need.

smdebug passes over a tensor once for each number, twice for those of absolute values, and copies
what is not in C order first. A step's numbers stay where the tensors are until they are written.
"""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

Reduction = tuple[str, bool]
"""smdebug's name of a reduction, and whether it is of the absolute values."""


def reduce(value: Tensor, wanted: Sequence[Reduction]) -> list[Tensor]:
    """Each reduction as a float32 without dimensions, on the tensor's own device."""
    passes = _Passes(value.detach())
    return [passes.find(name, absolute).float() for name, absolute in wanted]


class _Passes:
    """The passes over one tensor, each made when it is first needed."""

    def __init__(self, value: Tensor) -> None:
        # bfloat16 is too coarse to be summed, and integers have no mean.
        wide = value if value.dtype in (torch.float32, torch.float64) else value.float()
        self.values = _in_memory_order(wide)

    def find(self, name: str, absolute: bool) -> Tensor:
        """One reduction; what is not among the shared passes has a pass of its own."""
        shared = {
            ("min", False): lambda: self.extremes[0],
            ("max", False): lambda: self.extremes[1],
            ("max", True): lambda: torch.maximum(self.extremes[1], -self.extremes[0]),
            ("mean", True): lambda: self.l1 / self.values.numel(),
            ("sum", True): lambda: self.l1,
            ("l1", absolute): lambda: self.l1,
            ("l2", absolute): lambda: self.l2,
            ("variance", False): lambda: self.variance,
            ("std", False): lambda: torch.sqrt(self.variance),
        }
        if (name, absolute) in shared:
            return shared[name, absolute]()
        if absolute:
            return _Passes(self.values.abs()).find(name, False)
        # A product of many leaves float32's range on the way to a result inside of it.
        values = self.values.double() if name == "prod" else self.values
        found: Tensor = getattr(values, name)()
        return found

    @cached_property
    def extremes(self) -> tuple[Tensor, Tensor]:
        low, high = torch.aminmax(self.values)
        return low, high

    @cached_property
    def l1(self) -> Tensor:
        norm: Tensor = torch.linalg.vector_norm(self.values, 1)
        return norm

    @cached_property
    def l2(self) -> Tensor:
        norm: Tensor = torch.linalg.vector_norm(self.values)
        return norm

    @cached_property
    def variance(self) -> Tensor:
        if self.values.numel() < 2:  # torch warns of it
            return torch.full((), torch.nan, device=self.values.device)
        return self.values.var()


def _in_memory_order(value: Tensor) -> Tensor:
    """All values in one dimension; their order matters to no reduction, and to the caches a lot."""
    if value.ndim == 4 and value.is_contiguous(memory_format=torch.channels_last):
        value = value.permute(0, 2, 3, 1)
    return value.reshape(-1)
