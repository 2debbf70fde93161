"""Frozen and trained layers compute in one arithmetic, whatever each would choose by itself."""

import subprocess
import sys

import pytest
from opt_ml import QUICK, ROOT, OptMl, write_images

PROGRAM = """
import sys, torch
torch.cpu.get_capabilities = lambda: {"avx512_bf16": False}
from container.training import main
sys.exit(main(sys.argv[1:]))
"""
"""Training where torch finds no bfloat16, which OpenVINO may find nonetheless."""


@pytest.mark.parametrize("trainable", ["head", "layer4"])
def test_frozen_layers_compute_in_what_trained_layers_do(opt_ml: OptMl, trainable: str) -> None:
    write_images(opt_ml.channel("train"), count=10)
    flags = [f"--{name}={value}" for name, value in (QUICK | {"trainable": trainable}).items()]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *flags],
        env=opt_ml.environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Frozen layers by openvino float32" in done.stdout
