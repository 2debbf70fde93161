"""smdebug's files, written by the hook and read back by smdebug's own trial; every trap it has."""

import copy
import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from debugging_nets import ResNet, train
from opt_ml import ROOT
from torch import nn

from container.debugging import hook as hooks
from container.debugging.hook import create_hook
from container.debugging.presets import PRESETS
from container.debugging.rules.answers import newest_evaluation
from container.debugging.rules.course import StalledTraining
from container.debugging.rules.losses import rounds
from container.debugging.tensors import Tensors
from container.errors import UserError
from container.job import Job

# smdebug is from 2023, and what it brings along is older.
CONFIGURATION = {
    "CollectionConfigurations": [
        {"CollectionName": "losses", "CollectionParameters": {"save_interval": "1"}},
        {"CollectionName": "gradients", "CollectionParameters": {"save_interval": "2"}},
        {
            "CollectionName": "everything",
            "CollectionParameters": {
                "include_regex": "_output_",
                "save_interval": "1",
                "reductions": "mean,abs_max",
            },
        },
    ]
}
PYTHONPATH = os.pathsep.join(map(str, (ROOT / "tests/support", ROOT)))

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ImportWarning")


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.delenv("SMDEBUG_CONFIG_FILE_PATH", raising=False)
    (tmp_path / "input/config").mkdir(parents=True)
    return Job(tmp_path)


def configure(job: Job, configuration: Any) -> None:
    (job.config_dir / "debughookconfig.json").write_text(json.dumps(configuration))


def trial(directory: Path) -> Any:
    from smdebug.trials import create_trial

    return create_trial(str(directory))


@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_preset_saves_its_collections(job: Job, preset: str) -> None:
    from smdebug.pytorch import modes

    train(create_hook(job, preset), 52)  # updates are seen from the second look on
    saved = trial(job.output_dir / "tensors")
    for collection in PRESETS[preset]:
        assert saved.tensor_names(collection=collection), collection
    loss = saved.tensor("CrossEntropyLoss_output_0")
    assert loss.steps(mode=modes.TRAIN) == [0, 10, 20, 30, 40, 50]
    assert loss.steps(mode=modes.EVAL) == [0]
    if preset != "losses":
        weight = saved.tensor("ResNet_fc.weight").reduction_values(0, mode=modes.TRAIN)
        assert len(weight) == 7
        assert saved.tensor("relu_activity_0").value(0, mode=modes.TRAIN).shape == (4,)


def test_saved_values_are_the_true_ones(job: Job) -> None:
    from smdebug.pytorch import modes

    configure(job, CONFIGURATION)
    hook = create_hook(job, "off")
    torch.manual_seed(0)
    network, criterion = ResNet(), nn.CrossEntropyLoss()
    hook.register(network, criterion)
    hook.training()
    loss = criterion(network(torch.randn(4, 3, 8, 8)), torch.tensor([0, 1, 2, 0]))
    loss.backward()
    hook.close()
    saved = trial(job.output_dir / "tensors")
    assert saved.tensor("CrossEntropyLoss_output_0").value(0, mode=modes.TRAIN) == loss.item()
    gradient = saved.tensor("gradient/ResNet_fc.weight").value(0, mode=modes.TRAIN)
    assert network.fc.weight.grad is not None
    assert torch.equal(torch.from_numpy(gradient), network.fc.weight.grad)


def test_the_services_configuration_beats_the_preset(job: Job) -> None:
    from smdebug.pytorch import modes

    configure(job, {**CONFIGURATION, "LocalPath": str(job.base / "elsewhere")})
    train(create_hook(job, "losses"), 5)
    saved = trial(job.base / "elsewhere")
    assert saved.tensor("gradient/ResNet_fc.bias").steps(mode=modes.TRAIN) == [0, 2, 4]
    assert saved.tensor("CrossEntropyLoss_output_0").steps(mode=modes.TRAIN) == [0, 1, 2, 3, 4]
    assert not (job.output_dir / "tensors").exists()


def test_a_job_without_configuration_has_no_hook(job: Job) -> None:
    train(create_hook(job, "off"))
    assert not job.output_dir.exists()


def test_a_configuration_that_is_not_json_is_the_users_error(job: Job) -> None:
    (job.config_dir / "debughookconfig.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        create_hook(job, "off")


def test_bfloat16_tensors_are_saved_as_float32(job: Job) -> None:
    from smdebug.pytorch import modes

    configure(job, CONFIGURATION)
    hook = create_hook(job, "off")
    train(hook, bfloat16=True)
    assert hook.failure is None
    saved = trial(job.output_dir / "tensors").tensor("conv1_output_0")
    assert saved.steps(mode=modes.TRAIN) == [0, 1, 2, 3]
    assert saved.reduction_value(3, "max", mode=modes.TRAIN, abs=True) > 0


def test_copies_of_a_hooked_network_work_and_are_not_watched(job: Job) -> None:
    # "copy.deepcopy, AveragedModel (EMA) and a pickle give a model that crashes at forward"
    from smdebug.pytorch import modes

    configure(job, CONFIGURATION)
    hook = create_hook(job, "off")
    network, criterion = ResNet(), nn.CrossEntropyLoss()
    hook.register(network, criterion)
    hook.training()
    images, labels = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 0])
    criterion(network(images), labels).backward()
    average = torch.optim.swa_utils.AveragedModel(network)
    pickled = pickle.loads(pickle.dumps(network))  # noqa: S301 - our own bytes
    for copied in (copy.deepcopy(network), average, pickled):
        assert copied(images).shape == (4, 3)
    criterion(network(images), labels).backward()
    hook.close()
    assert hook.failure is None
    saved = trial(job.output_dir / "tensors").tensor("CrossEntropyLoss_output_0")
    assert saved.steps(mode=modes.TRAIN) == [0, 1]


def test_a_network_is_hooked_only_for_steps_that_save_something_of_it(job: Job) -> None:
    hook = create_hook(job, "standard")
    network, criterion = ResNet(), nn.CrossEntropyLoss()
    hook.register(network, criterion)
    hook.training()
    hooked = []
    for _ in range(51):
        criterion(network(torch.randn(4, 3, 8, 8)), torch.tensor([0, 1, 2, 0])).backward()
        hooked.append(
            sum(len(module._forward_hooks) for module in network.modules())
            + sum(len(each._backward_hooks or ()) for each in network.parameters())
        )
    # At step 10 the loss and labels alone are due; that no module has them is known from then on.
    assert [step for step, count in enumerate(hooked) if count] == [*range(11), 50]
    hook.close()
    assert hook.failure is None


def test_steps_go_on_after_a_resume_and_later_ones_are_dropped(job: Job) -> None:
    from smdebug.pytorch import modes

    configure(job, CONFIGURATION)
    train(create_hook(job, "off"), 6)  # TRAIN 0 to 5, EVAL 0
    train(create_hook(job, "off"), 3, trained=4, evaluated=0)
    saved = trial(job.output_dir / "tensors")
    loss = saved.tensor("CrossEntropyLoss_output_0")
    assert loss.steps(mode=modes.TRAIN) == [0, 1, 2, 3, 4, 5, 6]
    assert loss.steps(mode=modes.EVAL) == [0]
    assert saved.tensor("gradient/ResNet_fc.bias").steps(mode=modes.TRAIN) == [0, 2, 4, 6]
    assert saved.steps() == [*range(8)]


@pytest.mark.parametrize("resumed", [False, True])
def test_an_evaluation_after_training_is_not_taken_for_the_validation(
    job: Job, resumed: bool
) -> None:
    hook = create_hook(job, "standard")
    network, criterion = ResNet(), nn.CrossEntropyLoss()
    images = torch.randn(4, 3, 8, 8)
    hook.register(network, criterion)
    hook.training()
    criterion(network(images), torch.tensor([0, 1, 2, 0])).backward()
    hook.evaluation()
    for _ in range(2):
        criterion(network(images), torch.tensor([1, 1, 1, 1]))
    if resumed:
        hook.close()
        hook, network, criterion = create_hook(job, "standard"), ResNet(), nn.CrossEntropyLoss()
        hook.register(network, criterion, trained=1, evaluated=2)
    for label in (2, 0):  # the best epoch's once more, then the test's
        hook.evaluation()
        for _ in range(3):
            criterion(network(images), torch.tensor([label] * 4))
    hook.close()
    assert hook.failure is None
    tensors = Tensors(job.output_dir / "tensors")
    (only,) = rounds(tensors)
    assert (len(only.train), len(only.validation)) == (1, 2)
    _, truth, answers = newest_evaluation(tensors, "Loss_input_1", "Loss_input_0", argmax=True)
    assert truth.tolist() == [0] * 12
    assert answers.shape == (12,)


def test_an_epoch_that_is_resumed_at_its_evaluation_numbers_it_as_if_it_had_never_stopped(
    job: Job,
) -> None:
    hook, network, criterion = create_hook(job, "standard"), ResNet(), nn.CrossEntropyLoss()
    hook.register(network, criterion, trained=2, evaluated=1)
    hook.training()  # there is no batch left
    hook.evaluation()
    criterion(network(torch.randn(4, 3, 8, 8)), torch.tensor([0, 1, 2, 0]))
    hook.close()
    assert hook.failure is None
    tensors = Tensors(job.output_dir / "tensors")
    (name,) = tensors.collection("losses", "EVAL")
    assert list(tensors.steps(name, "EVAL")) == [1]


@pytest.mark.parametrize("wrapping", ["compiled", "compiled in place", "compiled after"])
def test_a_compiled_network_is_watched_or_refused_in_a_sentence(
    job: Job, wrapping: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # "hooks on, compile: 57 graphs, 83 breaks, 77 s first step"
    from torch._dynamo.testing import CompileCounter

    configure(job, CONFIGURATION)
    torch.compiler.reset()
    hook, network, criterion = create_hook(job, "off"), ResNet(), nn.CrossEntropyLoss()
    counter = CompileCounter()
    called: nn.Module = network
    if wrapping == "compiled":
        called = torch.compile(network, backend=counter)  # type: ignore[assignment]
    elif wrapping == "compiled in place":
        network.compile(backend=counter)
    hook.register(called, criterion)
    if wrapping == "compiled after":
        called = torch.compile(network, backend=counter)  # type: ignore[assignment]
    hook.training()
    for _ in range(4):
        criterion(called(torch.randn(4, 3, 8, 8)), torch.tensor([0, 1, 2, 0])).backward()
    hook.close()
    assert counter.frame_count == 1
    if wrapping == "compiled":
        saved = trial(job.output_dir / "tensors")
        assert saved.tensor("gradient/ResNet_fc.bias").steps() == [0, 2]
        assert saved.tensor("CrossEntropyLoss_output_0").steps() == [0, 1, 2, 3]
        assert "does not see its activations" in capsys.readouterr().out
    else:
        assert "othing is saved" in (hook.failure or "")


def test_names_are_the_bare_networks_under_data_parallelism(job: Job) -> None:
    import torch.distributed as dist

    configure(job, CONFIGURATION)
    dist.init_process_group("gloo", init_method=f"file://{job.base}/store", rank=0, world_size=1)
    try:
        hook, criterion = create_hook(job, "off"), nn.CrossEntropyLoss()
        network = nn.parallel.DistributedDataParallel(ResNet())
        hook.register(network, criterion)
        hook.training()
        criterion(network(torch.randn(4, 3, 8, 8)), torch.tensor([0, 1, 2, 0])).backward()
        hook.close()
    finally:
        dist.destroy_process_group()
    assert hook.failure is None
    names = trial(job.output_dir / "tensors").tensor_names()
    assert {"gradient/ResNet_fc.bias", "conv1_output_0"} <= set(names)
    assert not [name for name in names if "module" in name]


def test_what_a_killed_run_left_is_cleared(job: Job) -> None:
    from smdebug.pytorch import modes

    train(create_hook(job, "losses"), 25)
    tensors = job.output_dir / "tensors"
    (tensors / "claim.smd").touch()
    train(create_hook(job, "losses"), 2)
    assert trial(tensors).tensor("CrossEntropyLoss_output_0").steps(mode=modes.TRAIN) == [0]


def test_an_error_in_smdebug_is_reported_once_and_training_goes_on(
    job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    # "A custom collection without include_regex: InvalidCollectionConfiguration at first forward"
    configure(job, {"CollectionConfigurations": [{"CollectionName": "activations"}]})
    hook = create_hook(job, "off")
    network = train(hook)
    assert network.fc.weight.grad is not None
    assert hook.failure
    assert "InvalidCollectionConfiguration" in hook.failure
    assert capsys.readouterr().out.count("smdebug failed") == 1
    # And the next training of this process is not without.
    (job.config_dir / "debughookconfig.json").unlink()
    after = create_hook(job, "losses")
    train(after)
    assert after.failure is None


def test_a_hook_that_cannot_start_is_reported(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    configure(job, {**CONFIGURATION, "HookParameters": {"save_interval": "often"}})
    hook = create_hook(job, "off")
    train(hook)
    assert hook.failure
    assert "smdebug cannot start" in capsys.readouterr().out


def test_a_nearly_full_disk_ends_the_saving(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    from container.debugging import forgiving_hook

    monkeypatch.setattr(forgiving_hook, "RESERVED_BYTES", 2**60)
    hook = create_hook(job, "losses")
    train(hook)
    assert hook.failure
    assert "are free" in hook.failure


def test_a_hook_that_fails_is_not_taken_for_a_training_that_stalls(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    from container.debugging import forgiving_hook

    hook = create_hook(job, "losses")
    network, criterion = ResNet(), nn.CrossEntropyLoss()
    hook.register(network, criterion)
    hook.training()

    def train_on() -> Tensors:
        for _ in range(11):
            criterion(network(torch.randn(4, 3, 8, 8)), torch.tensor([0, 1, 2, 0])).backward()
        return Tensors(job.output_dir / "tensors", since=time.time())

    rule = StalledTraining(threshold=-1, live=True)  # any silence is too long
    assert rule.check(train_on()) is not None
    monkeypatch.setattr(forgiving_hook, "RESERVED_BYTES", 2**60)
    assert rule.check(train_on()) is None, "told in the middle of an epoch, which may be long"
    hook.close()
    assert "are free" in (hook.failure or "")
    # The next training of this directory saves again.
    assert create_hook(job, "losses").failure is None
    assert not Tensors(job.output_dir / "tensors").hook_off


def test_a_network_that_cannot_be_watched_is_none_that_stalls(job: Job) -> None:
    train(create_hook(job, "losses"))  # an earlier run's tensors
    hook, network = create_hook(job, "losses"), ResNet()
    network.compile(backend="eager")
    hook.register(network, nn.CrossEntropyLoss(), trained=4, evaluated=1)
    assert Tensors(job.output_dir / "tensors").hook_off


def test_writes_that_fail_do_not_hang_training(job: Job) -> None:
    # "a full tensor disk kills a writer thread and then training hangs for ever". A limit on the
    # size of files makes the same writes fail, with no file system of our own to fill.
    configure(job, CONFIGURATION)
    program = (
        "import resource; from debugging_nets import *; "
        f"hook = create_hook(job_at({str(job.base)!r}), 'off'); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300)); "
        "train(hook, 20); print('trained', hook.failure)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
    )
    assert "trained smdebug failed and has switched itself off" in done.stdout
    assert "File too large" in done.stdout


def test_smdebug_leaves_checkpoints_alone(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    # "smdebug walks the checkpoint directory every step, and writes metadata.json into it"
    checkpoints = job.base / "checkpoints"
    checkpoints.mkdir()
    (checkpoints / "metadata.json").write_text("")
    (job.config_dir / "checkpointconfig.json").write_text(
        json.dumps({"LocalPath": str(checkpoints)})
    )
    monkeypatch.setenv("CHECKPOINT_CONFIG_FILE_PATH", str(job.config_dir / "checkpointconfig.json"))
    hook = create_hook(job, "losses")
    train(hook, 2)
    assert hook.failure is None
    assert (checkpoints / "metadata.json").read_text() == ""


def test_only_the_first_worker_has_a_hook(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert create_hook(job, "losses").directory is None
    configure(job, {**CONFIGURATION, "HookParameters": {"include_workers": "all"}})
    assert create_hook(job, "off").directory == job.output_dir / "tensors"


def test_two_processes_write_one_workers_files(job: Job) -> None:
    program = (
        "import os; import torch.distributed as dist; from debugging_nets import *; "
        "dist.init_process_group('gloo'); "
        f"hook = create_hook(job_at({str(job.base)!r}), 'losses'); "
        "train(hook); assert hook.failure is None, hook.failure; dist.destroy_process_group()"
    )
    shared = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29517",
        "WORLD_SIZE": "2",
        "PYTHONPATH": PYTHONPATH,
    }
    workers = [
        subprocess.Popen([sys.executable, "-c", program], env={**shared, "RANK": rank})
        for rank in ("0", "1")
    ]
    assert [worker.wait(120) for worker in workers] == [0, 0]
    saved = trial(job.output_dir / "tensors")
    assert saved.workers() == ["worker_0"]
    assert (job.output_dir / "tensors/training_job_end.ts").exists()


def test_a_job_of_the_service_marks_its_end_too(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINING_JOB_NAME", "dogs-1")
    train(create_hook(job, "losses"))
    assert (job.output_dir / "tensors/training_job_end.ts").exists()


def test_a_missing_smdebug_is_reported(
    job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("smdebug_hook", "forgiving_hook", "writers", "step_file"):
        monkeypatch.delitem(sys.modules, f"container.debugging.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "smdebug", None)
    assert isinstance(create_hook(job, "losses"), hooks.Hook)
    assert "No tensors are saved: smdebug cannot start" in capsys.readouterr().out
