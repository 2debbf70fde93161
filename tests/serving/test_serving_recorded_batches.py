"""Recorded batches: sizes, padding and failures on any machine; CUDA graphs where there is a GPU.

On a GPU: `pytest tests/serving/test_serving_recorded_batches.py`.
"""

import logging
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import serving_artifacts
import torch
from hypothesis import given
from hypothesis import strategies as st
from opt_ml import ROOT
from serving_artifacts import CLASSES

from container.serving.engines.engine import Images, give_back_freed_memory
from container.serving.engines.recorded_batches import (
    SIZES,
    RecordedBatches,
    padded,
    record_or_none,
)
from container.serving.engines.torch_engine import TorchEngine

Work = Callable[[], None]
SIDE = 4
SAMPLES = np.arange(2 * SIDE * SIDE * 3, dtype=np.uint8).reshape(2, SIDE, SIDE, 3)


def forward(images: torch.Tensor) -> torch.Tensor:
    """Three numbers that no two images share: a small network, without weights."""
    return images.to(torch.float32).flatten(1)[:, :3].contiguous()


class Repeats:
    """Records by keeping the work itself, which is what a recording on the CPU comes to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.sizes: Counter[int] = Counter()
        """How often each recording was used; the first is the largest."""

    @contextmanager
    def turn(self) -> Iterator[None]:
        assert self._lock.acquire(timeout=10), "a turn within a turn"
        try:
            yield
        finally:
            self._lock.release()

    def record(self, work: Work) -> Work:
        size = SIZES[-1 - len(self.sizes)]
        self.sizes[size] = 0

        def repeat() -> None:
            assert self._lock.locked(), "not in a turn"
            self.sizes[size] += 1
            work()

        return repeat


def recorded(recorder: Repeats) -> RecordedBatches:
    return RecordedBatches(
        forward,
        recorder,
        SAMPLES,
        classes=3,
        precision="float32",
        device=torch.device("cpu"),
    )


def images(count: int, seed: int = 0) -> Images:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


@given(st.integers(1, SIZES[-1]))
def test_a_batch_is_padded_to_less_than_twice_its_size(count: int) -> None:
    assert padded(count) in SIZES
    assert count <= padded(count) < 2 * count or count == padded(count) == 1


def test_each_batch_takes_the_recording_of_its_size_and_only_its_own_scores() -> None:
    recorder = Repeats()
    batches = recorded(recorder)
    recorder.sizes.clear()
    # Downwards, so that behind each batch lie the images of the one before it.
    for count in range(SIZES[-1], 0, -1):
        own = images(count, seed=count)
        assert np.array_equal(batches(own), own.reshape(count, -1)[:, :3])
    assert recorder.sizes == {size: max(1, size // 2) for size in SIZES}


def test_scores_stay_when_the_next_batch_comes() -> None:
    batches = recorded(Repeats())
    first = batches(images(5, seed=1))
    kept = first.copy()
    batches(images(5, seed=2))
    assert np.array_equal(first, kept)


def test_batches_of_many_threads_are_not_mixed_up() -> None:
    batches = recorded(Repeats())

    def one(seed: int) -> bool:
        own = images(1 + seed % SIZES[-1], seed)
        return np.array_equal(batches(own), own.reshape(len(own), -1)[:, :3])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(one, range(400)))


class Fails(Repeats):
    """One size cannot be recorded, as when a device runs out of memory."""

    def record(self, work: Work) -> Work:
        if len(self.sizes) == 3:
            raise RuntimeError("CUDA error: out of memory.\nmany lines of advice")
        return super().record(work)


class DoesNothing(Repeats):
    """A recording that does not repeat the work."""

    def record(self, work: Work) -> Work:
        work()
        return super().record(lambda: None)


@pytest.mark.parametrize(
    ("recorder", "reason"),
    [(Fails(), "CUDA error: out of memory."), (DoesNothing(), "a recorded batch of 64 gives")],
    ids=["fails", "does-nothing"],
)
def test_without_recordings_serving_goes_on_with_a_sentence_in_the_log(
    recorder: Repeats, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert record_or_none(lambda: recorded(recorder)) is None
    assert len(caplog.messages) == 1
    assert reason in caplog.text
    assert "many lines" not in caplog.text
    with recorder.turn():
        pass  # the failure left nobody's turn behind


def test_giving_back_a_device_s_memory_needs_no_device() -> None:
    assert "torch" in sys.modules
    give_back_freed_memory()


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA device")


@pytest.fixture(scope="module")
def pair() -> tuple[TorchEngine, TorchEngine]:
    """The same network with graphs and without."""
    return engine("resnet50"), engine("resnet50", graphs=False)


def engine(architecture: str, *, graphs: bool = True, precision: str = "auto") -> TorchEngine:
    facts = serving_artifacts.facts(architecture, 64)
    weights = serving_artifacts.random_weights(architecture, len(CLASSES))
    made = TorchEngine(facts, weights, precision, 0, 2, graphs=graphs)  # type: ignore[arg-type]  # one of two
    assert ("graphs" in made.name) == graphs, "capturing failed; the log says why"
    return made


def pictures(count: int) -> Images:
    generator = np.random.default_rng(count)
    return generator.integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)


def agree(one: TorchEngine, other: TorchEngine, count: int) -> bool:
    truth = other.scores(pictures(count))
    tolerance = 2e-2 if one.precision == "bfloat16" else 5e-3
    return float(np.abs(one.scores(pictures(count)) - truth).max()) < tolerance * (
        1 + float(np.abs(truth).max())
    )


@needs_gpu
def test_graphs_answer_as_the_network_does_for_every_size(
    pair: tuple[TorchEngine, TorchEngine],
) -> None:
    with_graphs, without = pair
    for count in (*range(SIZES[-1], 0, -1), 65, 130):
        assert agree(with_graphs, without, count), count


@needs_gpu
def test_a_model_answers_while_others_are_loaded_and_unloaded(
    pair: tuple[TorchEngine, TorchEngine],
) -> None:
    with_graphs, without = pair
    ended = threading.Event()

    def ask() -> list[int]:
        wrong = []
        while not ended.is_set():
            wrong += [count for count in (1, 3, 64) if not agree(with_graphs, without, count)]
        return wrong

    with ThreadPoolExecutor(1) as pool:
        wrong = pool.submit(ask)
        try:
            for precision in ("float32", "auto") * 2:
                other = engine("resnet18", precision=precision)
                assert agree(other, engine("resnet18", graphs=False, precision=precision), 5)
                del other
                give_back_freed_memory()
        finally:
            ended.set()
        assert wrong.result() == []


@needs_gpu
def test_what_a_model_had_of_the_device_comes_back() -> None:
    left = []
    for _ in range(3):
        assert engine("resnet18").scores(pictures(3)).shape == (3, len(CLASSES))
        give_back_freed_memory()
        left.append((torch.cuda.memory_allocated(), torch.cuda.memory_reserved()))
    assert left[1] == left[2], "the first left cuBLAS its workspace"


FAILED_CAPTURE = """
import logging
import numpy as np, serving_artifacts, torch
from container.serving.engines.torch_engine import TorchEngine, _Forward

logging.basicConfig()
facts = serving_artifacts.facts("resnet18", 64)
weights = serving_artifacts.random_weights("resnet18", len(facts.classes))
images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
before = TorchEngine(facts, dict(weights), "auto", 0, 2)
truth = before.scores(images)
forward = _Forward.__call__

def waits(self, images):
    scores = forward(self, images)
    torch.cuda.current_stream().synchronize()  # which no capture allows
    return scores

_Forward.__call__ = waits
for _ in range(2):
    network = TorchEngine(facts, dict(weights), "auto", 0, 2)
    assert "graphs" not in network.name
    for engine in (network, before):
        assert np.allclose(engine.scores(images), truth, rtol=2e-2, atol=2e-2)
"""


@needs_gpu
def test_after_a_failed_capture_new_models_and_old_ones_answer() -> None:
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests/support")))
    result = subprocess.run(
        [sys.executable, "-c", FAILED_CAPTURE],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("Going on without them.") == 2
