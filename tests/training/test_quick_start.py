import subprocess
import sys

import pytest
from opt_ml import ROOT

START = """
import sys
from container.quick_start import import_torchvision

import_torchvision()
import torch
from torchvision.models import get_model

network = get_model("resnet18", num_classes=2)
optimizer = torch.optim.AdamW(network.parameters(), fused=True)
network(torch.zeros(2, 3, 32, 32)).sum().backward()
optimizer.step()
optimizer.zero_grad()
assert "sympy" not in sys.modules
"""

COMPILE = """
compiled = torch.compile(lambda x: x + 1, backend="eager")
assert compiled(torch.zeros(1)).item() == 1
"""

SUBMODULE = """
from torch._dynamo.config import recompile_limit
import torch._dynamo.utils
assert torch._dynamo.config is sys.modules["torch._dynamo.config"]
assert torch._dynamo.utils.__file__
"""

ATTRIBUTE = """
assert torch._dynamo.utils.get_optimize_ddp_mode()
assert torch._dynamo is sys.modules["torch._dynamo"]
"""


@pytest.mark.parametrize("then", [SUBMODULE + COMPILE, ATTRIBUTE])
def test_training_starts_without_the_compiler_and_finds_it_when_asked(then: str) -> None:
    command = [sys.executable, "-c", START + then]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
