"""Run a ResNet with torch, on this worker's own NVIDIA device or, when forced, on the CPU.

Loaded in the worker process, after the fork: CUDA does not survive one.
"""

import threading
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from container import model, processors
from container.artifact import Facts
from container.errors import UserError
from container.serving.engines.engine import Images, Scores
from container.serving.settings import Precision

BATCH = 64
"""Largest number of images on the device at once; bounds its memory."""
BFLOAT16_CAPABILITY = (8, 0)
"""Devices from Ampere on have bfloat16; older ones have float16 only."""


class TorchEngine:
    """One network on one device; requests take turns."""

    batch = BATCH

    def __init__(
        self, facts: Facts, weights: dict[str, NDArray[Any]], precision: Precision, slot: int
    ) -> None:
        self.lanes = processors.available()
        self._device = _device(slot)
        self._dtype = _dtype(self._device, precision)
        self._preprocessing = facts.preprocessing
        self._turn = threading.Lock()
        self.precision = str(self._dtype).removeprefix("torch.")
        self.name = f"torch {self._device.type} {self.precision}"
        with torch.device("meta"):  # no time is spent on initial weights
            network = model.build_resnet(facts.architecture, len(facts.classes))
        state = {
            # The counters of training steps are not in the artifact.
            name: torch.from_numpy(weights.pop(name)) if name in weights else torch.tensor(0)
            for name in network.state_dict()
        }
        network.load_state_dict(state, assign=True)
        self._network = network.eval().to(
            self._device, self._dtype, memory_format=torch.channels_last
        )

    def scores(self, images: Images, present: int = 1) -> Scores:
        """The network's logits, in batches of at most BATCH."""
        parts = [
            self._batch(images[start : start + BATCH]) for start in range(0, len(images), BATCH)
        ]
        return np.concatenate(parts)

    def _batch(self, images: Images) -> Scores:
        with self._turn, torch.inference_mode():
            pixels = torch.from_numpy(images).to(self._device)
            inputs = model.normalise(pixels, self._preprocessing).to(self._dtype)
            scores: Scores = self._network(inputs).float().cpu().numpy()
            return scores


def _device(slot: int) -> torch.device:
    """This worker's device. Raises UserError."""
    if not processors.nvidia_devices():
        torch.set_num_threads(processors.available())
        return torch.device("cpu")
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"There is an NVIDIA device that torch {torch.__version__} cannot use: {error} "
            "Give the container the device and a recent driver, or set KENNEL_ENGINE=openvino to "
            "serve on the CPU."
        ) from None
    return torch.device("cuda", slot % torch.cuda.device_count())


def _dtype(device: torch.device, precision: Precision) -> torch.dtype:
    if device.type == "cpu":
        return torch.bfloat16 if precision == "bfloat16" else torch.float32
    if precision == "float32":
        return torch.float32
    newer = torch.cuda.get_device_capability(device) >= BFLOAT16_CAPABILITY
    if precision == "bfloat16" and not newer:
        raise UserError(
            f"KENNEL_PRECISION is bfloat16, which {torch.cuda.get_device_name(device)} does not "
            "have; use auto."
        )
    return torch.bfloat16 if newer else torch.float16
