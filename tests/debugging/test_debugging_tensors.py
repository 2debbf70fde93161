"""Kennel's reader of smdebug's files against smdebug's own, and files that are not whole."""

import contextlib
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from debugging_nets import DENSE, Images, ResNet, observe
from hypothesis import given
from hypothesis import strategies as st

from container.debugging.records import DamagedError, read_records
from container.debugging.tensors import EVAL, TRAIN, Tensors

# smdebug is from 2023, and what it brings along is older.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ImportWarning")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Tensors:
    """A short training with every collection, raw tensors among them."""
    collections = {
        **DENSE,
        "raw": {"include_regex": "gradient/.*conv1|relu_output", "save_interval": "3"},
    }
    return observe(
        tmp_path_factory.mktemp("written"),
        ResNet(),
        Images.draw(96, 1),
        Images.draw(64, 2),
        epochs=2,
        collections=collections,
    )


@pytest.fixture(scope="module")
def trial(written: Tensors) -> Any:
    from smdebug.trials import create_trial

    return create_trial(str(written.directory))


def test_names_and_steps_are_smdebugs(written: Tensors, trial: Any) -> None:
    from smdebug.core.modes import ModeKeys

    assert set(written.names("")) == set(trial.tensor_names())
    for name in trial.tensor_names():
        for mode in (TRAIN, EVAL):
            assert written.steps(name, mode) == trial.tensor(name).steps(mode=ModeKeys[mode]), name


def test_values_and_reductions_are_smdebugs(written: Tensors, trial: Any) -> None:
    from smdebug.core.modes import ModeKeys

    compared = 0
    for name in trial.tensor_names():
        for mode in (TRAIN, EVAL):
            for step in written.steps(name, mode):
                tensor = trial.tensor(name)
                whole = written.raw(name, mode, step)
                if whole is not None:
                    np.testing.assert_array_equal(whole, tensor.value(step, mode=ModeKeys[mode]))
                    compared += 1
                for measure, value in written.saved_measures(name, mode, step).items():
                    absolute = measure.startswith("abs_")
                    reduction = measure.removeprefix("abs_").removesuffix("_norm")
                    theirs = tensor.reduction_value(step, reduction, ModeKeys[mode], abs=absolute)
                    assert math.isnan(value) or value == pytest.approx(float(theirs)), (
                        name,
                        measure,
                    )
                    compared += 1
    assert compared > 200


def test_measures_come_from_whole_tensors_where_there_are_no_reductions(written: Tensors) -> None:
    name = "CrossEntropyLoss_input_0"
    (first, *_) = written.steps(name, TRAIN)
    whole = written.raw(name, TRAIN, first)
    assert whole is not None
    assert written.at(name, "l2_norm", TRAIN, first) == pytest.approx(np.linalg.norm(whole))
    assert written.at(name, "zeros", TRAIN, first) == 0


def test_collections_are_found_by_name(written: Tensors) -> None:
    assert written.collection("relu_activity") == ["relu_activity_0"]
    assert "gradient/ResNet_fc.weight" in written.collection("gradients")
    assert written.collection("nothing") == []


def test_new_files_are_taken_in_and_damaged_ones_left_out(written: Tensors, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    indices = sorted(written.directory.glob("index/*/*.json"))

    def bring(path: Path) -> Path:
        target = copy / path.relative_to(written.directory)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
        return target

    events = {path.stem: path for path in written.directory.glob("events/*/*.tfevents")}
    tensors = Tensors(copy)
    assert tensors.names("") == []
    bring(events[indices[0].stem])
    bring(indices[0])
    assert tensors.refresh()
    assert not tensors.refresh()
    assert tensors.steps("CrossEntropyLoss_output_0", TRAIN) == [0]
    # A file cut off by a full disk, an index that is no JSON, and one whose events are gone.
    cut = bring(events[indices[1].stem])
    cut.write_bytes(cut.read_bytes()[:-7])
    bring(indices[1])
    bring(indices[2]).write_text("{")
    bring(indices[3])
    assert tensors.refresh()
    assert len(tensors.damaged) == 3
    assert tensors.steps("CrossEntropyLoss_output_0", TRAIN) == [0]


@given(st.binary(max_size=200))
def test_any_bytes_are_records_or_damaged(content: bytes) -> None:
    with contextlib.suppress(DamagedError):
        list(read_records(content))


@given(st.data())
def test_a_changed_byte_never_breaks_the_reader(data: st.DataObject) -> None:
    content = bytearray(_sample())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(DamagedError):
        list(read_records(bytes(content)))


def _sample() -> bytes:
    """One record as smdebug writes it: the name `x`, four float32 values."""
    tensor = b"\x08\x01\x12\x04\x12\x02\x08\x04\x22\x10" + np.arange(4, dtype="<f4").tobytes()
    value = b"\x0a\x01x\x42" + bytes([len(tensor)]) + tensor
    event = b"\x2a" + bytes([len(value) + 2]) + b"\x0a" + bytes([len(value)]) + value
    record = len(event).to_bytes(8, "little") + bytes(4) + event + bytes(4)
    assert [list(r.value) for r in read_records(record)] == [[0, 1, 2, 3]]
    return record


def test_reading_is_fast(written: Tensors) -> None:
    def seconds() -> float:
        started = time.process_time()
        Tensors(written.directory)
        return time.process_time() - started

    # The best of some: what other tests have left for the garbage collector may come in between.
    best = min(seconds() for _ in range(3))
    count = sum(
        len(written.steps(name, mode)) for name in written.names("") for mode in (TRAIN, EVAL)
    )
    assert best / count < 0.001
