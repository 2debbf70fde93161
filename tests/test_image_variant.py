"""Where torch is not installed, as in the image of `--target cpu`."""

import os
import subprocess
import sys

import pytest
from opt_ml import ROOT, OptMl

from container import image_variant, processors
from container.errors import UserError
from container.serving import settings

TRAIN = """
import sys
from container import image_variant
image_variant.find_spec = lambda name: None
from container.training import main
sys.exit(main(["--epochs", "1"]))
"""


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_variant, "find_spec", lambda name: None)


def test_training_is_refused_in_one_sentence(opt_ml: OptMl) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRAIN],
        cwd=ROOT,
        env=os.environ | {"SAGEMAKER_BASE_DIR": str(opt_ml.base)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    sentence = (opt_ml.base / "output/failure").read_text()
    assert done.stderr == f"error: {sentence}\n"
    assert "Training needs torch, and this image has none" in sentence


@pytest.mark.usefixtures("without_torch")
@pytest.mark.parametrize(
    ("name", "value"), [("KENNEL_ENGINE", "torch"), ("KENNEL_GRADIENTS", "on")]
)
def test_what_needs_torch_is_refused_by_the_variable_s_name(name: str, value: str) -> None:
    with pytest.raises(UserError, match=f"{name}={value} needs torch"):
        settings.parse({name: value})


@pytest.mark.usefixtures("without_torch")
def test_openvino_serves_though_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "nvidia_devices", lambda: 1)
    parsed = settings.parse({})
    assert not parsed.runs_torch
    assert not parsed.has_gradients


def test_torch_serves_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "nvidia_devices", lambda: 1)
    assert settings.parse({}).runs_torch
    assert settings.parse({"KENNEL_ENGINE": "torch"}).runs_torch
    assert not settings.parse({"KENNEL_ENGINE": "openvino"}).runs_torch
