"""`/opt/ml` trees on disk, real JPEGs in them, and the real `./train` as a process."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]

QUICK = {"weights": "none", "trainable": "all", "image-size": "32", "epochs": "1"}
"""Hyperparameters with which a training takes seconds."""


def write_images(folder: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 6) -> Path:
    """Write `count` JPEGs of each class, told apart by their colour; returns the folder."""
    generator = np.random.default_rng(0)
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            pixels = generator.integers(0, 80, (40, 48, 3), dtype=np.uint8)
            pixels[..., number % 3] += 150
            Image.fromarray(pixels).save(folder / name / f"{index:02d}.jpg")
    return folder


@dataclass(frozen=True)
class OptMl:
    """A job's directory, as SageMaker lays it out under /opt/ml."""

    base: Path

    def channel(self, name: str) -> Path:
        """The directory of a channel."""
        path = self.base / "input/data" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def write_config(self, name: str, content: object) -> None:
        """Write one of the service's configuration files."""
        path = self.base / "input/config" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))

    def environment(self, **variables: str) -> dict[str, str]:
        """The environment in which `./train` finds this job."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SM_")}
        # Tiny networks gain nothing from threads, which wait for each other on a busy machine.
        own = {
            "SAGEMAKER_BASE_DIR": str(self.base),
            "OMP_NUM_THREADS": "1",
            "KENNEL_CACHE_DIR": str(self.base.parent / "cache"),
        }
        return clean | own | variables

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Start `./train`; its output is piped."""
        return subprocess.Popen(
            [sys.executable, ROOT / "train", *arguments],
            env=self.environment(**variables),
            cwd=self.base,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def train(
        self, options: Mapping[str, str] | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `./train` to its end, with QUICK and then the given hyperparameters as flags."""
        merged = QUICK | dict(options or {})
        flags = [part for name, value in merged.items() for part in (f"--{name}", value)]
        process = self.start(*flags, **variables)
        output, errors = process.communicate(timeout=240)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def failure(self) -> str:
        """What SageMaker would show as the FailureReason, and what follows it."""
        return (self.base / "output/failure").read_text()

    def facts(self) -> dict[str, Any]:
        """`model.json`."""
        content: dict[str, Any] = json.loads((self.base / "model/model.json").read_text())
        return content

    def metrics(self) -> list[dict[str, float]]:
        """`metrics.jsonl`, a line each."""
        lines = (self.base / "output/data/metrics.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]
