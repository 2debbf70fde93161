"""Fused reductions give what smdebug's own give, and its writer's files read back unchanged."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from container.debugging.reductions import Reduction, reduce

EVERY: list[Reduction] = [
    *((name, absolute) for name in ("min", "max", "mean", "sum") for absolute in (False, True)),
    *((name, absolute) for name in ("std", "variance") for absolute in (False, True)),
    *((name, absolute) for name in ("l1", "l2") for absolute in (False, True)),
    ("prod", False),
]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ImportWarning")


def smdebugs(value: Tensor, name: str, absolute: bool) -> Tensor:
    from smdebug.pytorch.utils import get_reduction_of_data

    found: Tensor = get_reduction_of_data(name, value.double(), "tensor", absolute)
    return found


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 5), max_size=4),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64]),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_reductions_are_smdebugs(
    shape: list[int], dtype: torch.dtype, channels_last: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    value = (torch.randn(shape, generator=generator) * 4 + 1).to(dtype)
    if channels_last and len(shape) == 4:
        value = value.contiguous(memory_format=torch.channels_last)
    for (name, absolute), found in zip(EVERY, reduce(value, EVERY), strict=True):
        if value.numel() == 1 and name in ("std", "variance"):
            assert found.isnan()
            continue
        expected = smdebugs(value, name, absolute).float()
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4, msg=f"{name} {absolute}")


@pytest.mark.parametrize("odd", [torch.nan, torch.inf, -torch.inf])
def test_what_is_no_number_stays_one(odd: float) -> None:
    largest, mean = reduce(torch.tensor([1.0, odd, 2.0]), [("max", True), ("mean", True)])
    assert not largest.isfinite()
    assert not mean.isfinite()
