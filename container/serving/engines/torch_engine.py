"""Run a ResNet with torch, on this worker's own NVIDIA device or, when forced, on the CPU.

Loaded in the worker process, after the fork: CUDA does not survive one.
"""

import threading
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.models import ResNet

from container import artifact, model, torch_resnet
from container.artifact import Facts
from container.errors import UserError
from container.images import Preprocessing
from container.processors import nvidia_devices
from container.serving.engines.cuda_graphs import GraphRecorder
from container.serving.engines.engine import Images, Scores
from container.serving.engines.recorded_batches import (
    SIZES,
    Forward,
    RecordedBatches,
    record_or_none,
)
from container.serving.settings import Precision

BATCH = SIZES[-1]
"""Largest number of images on the device at once; bounds its memory."""
BFLOAT16_CAPABILITY = (8, 0)
"""Devices from Ampere on have bfloat16; older ones have float16 only."""


class TorchEngine:
    """One network on one device; requests take turns."""

    batch = BATCH

    def __init__(
        self,
        facts: Facts,
        weights: dict[str, NDArray[Any]],
        precision: Precision,
        slot: int,
        processors: int,
        *,
        graphs: bool = True,
    ) -> None:
        """On an NVIDIA device passes are CUDA graphs, unless `graphs` says no or they fail.

        As many images as there are `processors` are prepared side by side.

        Raises:
            UserError: torch cannot use the device, or the device not the arithmetic.
            MemoryError: the weights do not fit into the device.
        """
        self.lanes = processors
        self._device = _device(slot, processors)
        dtype = _dtype(self._device, precision)
        self._turn = threading.Lock()
        self.precision = str(dtype).removeprefix("torch.")
        network = torch_resnet.from_arrays(facts.architecture, len(facts.classes), weights)
        try:
            network.to(self._device, dtype, memory_format=torch.channels_last)
        except torch.OutOfMemoryError as error:
            raise MemoryError(str(error)) from None
        self.forward: Forward = _Forward(network, facts.preprocessing, self._device, dtype)
        self._recorded: RecordedBatches | None = None
        if graphs and self._device.type == "cuda":
            self._recorded = record_or_none(lambda: self._record(facts))
        with_graphs = ", CUDA graphs" if self._recorded else ""
        self.name = f"torch {self._device.type} {self.precision}{with_graphs}"

    def _record(self, facts: Facts) -> RecordedBatches:
        return RecordedBatches(
            self.forward,
            GraphRecorder(self._device),
            artifact.reference_images(facts.preprocessing),
            classes=len(facts.classes),
            precision=self.precision,
            device=self._device,
        )

    def scores(self, images: Images, present: int = 1) -> Scores:
        """The network's logits, in batches of at most BATCH."""
        batch = self._recorded or self._batch
        return np.concatenate(
            [batch(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
        )

    def _batch(self, images: Images) -> Scores:
        with self._turn, torch.inference_mode():
            pixels = torch.from_numpy(images).to(self._device)
            scores: Scores = self.forward(pixels).cpu().numpy()
            return scores


class _Forward:
    """From uint8 images on the device to float32 logits; it sends nothing there itself."""

    def __init__(
        self,
        network: ResNet,
        preprocessing: Preprocessing,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._network = network
        self._dtype = dtype
        self._mean, self._std = model.channel_statistics(preprocessing, device)

    def __call__(self, images: Tensor) -> Tensor:
        inputs = model.standardise(images, self._mean, self._std).to(self._dtype)
        scores: Tensor = self._network(inputs)
        return scores.float()


def _device(slot: int, threads: int) -> torch.device:
    """This worker's device; the CPU computes with so many threads. Raises UserError."""
    if not nvidia_devices():
        torch.set_num_threads(threads)
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
