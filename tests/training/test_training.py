"""The real `./train` as a process, on `/opt/ml` trees."""

import contextlib
import csv
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from opt_ml import QUICK, ROOT, OptMl, write_images
from safetensors.numpy import load_file
from safetensors.torch import save_file

from container import metrics, torch_resnet
from container.hyperparameters import Hyperparameters
from container.training.optimization import build_criterion, learning_rate

UNREACHABLE = {"https_proxy": "http://127.0.0.1:9", "TORCH_HOME": "/nonexistent"}
"""No download works with these, as in a job with network isolation."""


def test_a_folder_of_images_becomes_an_artifact(opt_ml: OptMl) -> None:
    # All that a bare `docker run -v images:/opt/ml/input/data/train` gives.
    write_images(opt_ml.channel("train"), count=20)
    result = opt_ml.train({"epochs": "2"})
    assert result.returncode == 0, result.stderr
    assert opt_ml.facts()["classes"] == ["cat", "dog"]
    assert opt_ml.facts()["data"]["images"] == {"train": 28, "validation": 6, "test": 6}
    assert [entry["epoch"] for entry in opt_ml.metrics() if "epoch" in entry] == [1, 2]
    assert not (opt_ml.base / "output/failure").exists()
    assert not list((opt_ml.base / "checkpoints").iterdir())


def test_every_metric_is_printed_as_the_tuner_reads_it(opt_ml: OptMl) -> None:
    write_images(opt_ml.channel("train"), count=20)
    output = opt_ml.train({"epochs": "2"}).stdout
    for metric in metrics.METRICS:
        values = [float(value) for value in re.findall(metric.regex, output)]
        recorded = [entry[metric.name] for entry in opt_ml.metrics() if metric.name in entry]
        assert values == pytest.approx(recorded, rel=1e-5)
        assert len(values) >= (1 if metric.name.startswith("test") else 2)


def test_the_services_hyperparameters_are_strings_and_flags_win_over_them(opt_ml: OptMl) -> None:
    write_images(opt_ml.channel("training"), count=20)
    opt_ml.write_config("inputdataconfig.json", {"training": {}})
    opt_ml.write_config(
        "hyperparameters.json",
        {
            "batch_size": "8",
            "lr": "1e-05",
            "epochs": "7",
            "_tuning_objective_metric": "validation:loss",
            "sagemaker_region": "eu-west-1",
        },
    )
    assert opt_ml.train().returncode == 0
    used = opt_ml.facts()["hyperparameters"]
    assert (used["batch-size"], used["lr"], used["epochs"]) == ("8", "1e-05", "1")


def test_the_same_seed_gives_the_same_weights(opt_ml: OptMl) -> None:
    write_images(opt_ml.channel("train"), count=20)
    digests = []
    for seed in ("3", "3", "4"):
        assert opt_ml.train({"seed": seed}).returncode == 0
        digests.append(opt_ml.facts()["weights_sha256"])
    assert digests[0] == digests[1] != digests[2]


def test_a_frozen_backbone_keeps_the_channels_pretrained_weights(opt_ml: OptMl) -> None:
    write_images(opt_ml.channel("train"), count=20)
    pretrained = torch_resnet.build("resnet18", 1000).state_dict()
    save_file(pretrained, opt_ml.channel("pretrained") / "resnet18.safetensors")
    result = opt_ml.train({"weights": "imagenet", "trainable": "head", "epochs": "3", "lr": "0.01"})
    assert result.returncode == 0, result.stderr
    weights = load_file(opt_ml.base / "model/model.safetensors")
    for name, tensor in pretrained.items():
        if not name.startswith("fc.") and name in weights:
            assert torch.equal(tensor, torch.from_numpy(weights[name])), name
    losses = [entry["train:loss"] for entry in opt_ml.metrics() if "train:loss" in entry]
    assert losses[-1] < losses[0]


def test_without_any_way_to_weights_the_sentence_names_them_all(opt_ml: OptMl) -> None:
    write_images(opt_ml.channel("train"), count=20)
    result = opt_ml.train({"weights": "imagenet"}, **UNREACHABLE)
    assert result.returncode == 1
    for way in (
        "channel named 'pretrained'",
        "--build-arg PRETRAINED=",
        "network",
        "weights=none with trainable=all",
    ):
        assert way in opt_ml.failure()


def test_random_frozen_layers_are_named(opt_ml: OptMl) -> None:
    write_images(opt_ml.channel("train"), count=10)
    done = opt_ml.train({"trainable": "head", "profile": "false"})
    assert done.returncode == 0
    assert "weights=none with trainable=head: the frozen layers stay random." in done.stdout
    assert "frozen layers stay random" not in opt_ml.train({"profile": "false"}).stdout


def test_unreadable_images_are_skipped_and_listed(opt_ml: OptMl) -> None:
    train = write_images(opt_ml.channel("train"), count=30)
    (train / "cat/broken.jpg").write_bytes((train / "cat/00.jpg").read_bytes()[:300])
    (train / "dog/empty.png").touch()
    assert opt_ml.train().returncode == 0
    with (opt_ml.base / "output/data/rejected_images.csv").open(newline="") as file:
        reasons = {Path(row["file"]).name: row["reason"] for row in csv.DictReader(file)}
    assert reasons["empty.png"] == "The image is empty: 0 bytes."
    assert reasons["broken.jpg"].startswith("The image is damaged")
    assert opt_ml.facts()["data"]["rejected"] == 2


def test_too_many_unreadable_images_fail_the_job(opt_ml: OptMl) -> None:
    train = write_images(opt_ml.channel("train"), count=20)
    for path in sorted((train / "cat").iterdir())[:10]:
        path.write_bytes(b"not an image")
    result = opt_ml.train()
    assert result.returncode == 1
    assert opt_ml.failure().startswith("10 of 40 images cannot be used")


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        (("--lr", "0"), "lr must be greater than 0, got 0."),
        (("--learning-rate", "1"), "did you mean 'lr'?"),
        (("--epoch=1",), "did you mean 'epochs'?"),
        (("--lr",), "Argument --lr: expected one argument; see ./train --help."),
    ],
)
def test_a_users_mistake_is_one_sentence_and_exit_code_1(
    opt_ml: OptMl, flag: tuple[str, ...], sentence: str
) -> None:
    process = opt_ml.start(*flag)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert sentence in errors
    assert len(errors.splitlines()) == 1
    assert output == ""
    assert opt_ml.failure() == errors.removeprefix("error: ").rstrip()


def test_what_an_earlier_run_left_is_not_taken_for_this_one_s(opt_ml: OptMl) -> None:
    train = write_images(opt_ml.channel("train"), count=10)
    quiet = {"profile": "false"}
    assert opt_ml.train(quiet | {"epochs": "0"}).returncode == 1
    assert opt_ml.train(quiet).returncode == 0
    assert not (opt_ml.base / "output/failure").exists()
    for path in train.rglob("*.jpg"):
        path.write_bytes(b"no image")
    assert opt_ml.train(quiet | {"trainable": "head"}).returncode == 1
    report = json.loads((opt_ml.base / "output/data/report.json").read_text())
    assert (report["outcome"], report["metrics"]) == ("failed", [])


def test_a_wrong_hyperparameter_becomes_the_failure_reason(opt_ml: OptMl) -> None:
    write_images(opt_ml.channel("train"))
    opt_ml.write_config("hyperparameters.json", {"optimiser": "sgd"})
    assert opt_ml.train().returncode == 1
    assert opt_ml.failure() == ("There is no hyperparameter 'optimiser'; did you mean 'optimizer'?")


def test_our_own_fault_is_reported_with_its_traceback(opt_ml: OptMl) -> None:
    write_images(opt_ml.channel("train"), count=20)
    (opt_ml.base / "model").write_text("a file where the directory should be")
    assert opt_ml.train().returncode == 1
    assert opt_ml.failure().startswith("FileExistsError: ")
    assert "Traceback (most recent call last)" in opt_ml.failure()


LONG = QUICK | {"epochs": "3", "batch-size": "4", "debug": "off"}


def test_a_stopped_job_saves_its_model_and_goes_on_bit_for_bit(opt_ml: OptMl) -> None:
    write_images(opt_ml.channel("train"), count=20)
    assert opt_ml.train(LONG).returncode == 0
    uninterrupted = opt_ml.facts()["weights_sha256"]
    recorded = opt_ml.metrics()

    interrupt(opt_ml, signal.SIGTERM, expected=0)
    assert list((opt_ml.base / "checkpoints").glob("checkpoint-*.safetensors"))

    resumed = opt_ml.train(LONG)
    assert "Resumed from checkpoint-" in resumed.stdout
    assert opt_ml.facts()["weights_sha256"] == uninterrupted
    for entry, again in zip(recorded, opt_ml.metrics(), strict=True):
        assert entry == pytest.approx(again, rel=1e-5)


def test_a_killed_job_goes_on_from_its_last_whole_checkpoint(opt_ml: OptMl) -> None:
    write_images(opt_ml.channel("train"), count=20)
    assert opt_ml.train(LONG).returncode == 0
    uninterrupted = opt_ml.facts()["weights_sha256"]

    interrupt(opt_ml, signal.SIGKILL, expected=-signal.SIGKILL)
    checkpoints = opt_ml.base / "checkpoints"
    (checkpoints / "metadata.json").touch()  # smdebug's
    newest = max(checkpoints.glob("checkpoint-*.safetensors")).name
    newer = newest.rsplit("-", 2)[0] + "-999999-00000000.safetensors"
    (checkpoints / newer).write_bytes(b"cut short")

    resumed = opt_ml.train(LONG)
    assert f"Ignored {newer}: it cannot be read" in resumed.stdout
    assert "Resumed from checkpoint-" in resumed.stdout
    assert opt_ml.facts()["weights_sha256"] == uninterrupted
    assert (checkpoints / "metadata.json").exists()


def test_a_checkpoint_of_other_settings_is_not_resumed(opt_ml: OptMl) -> None:
    write_images(opt_ml.channel("train"), count=20)
    interrupt(opt_ml, signal.SIGKILL, expected=-signal.SIGKILL)
    result = opt_ml.train({"seed": "5"})
    assert result.returncode == 0
    assert "Starting anew: no checkpoint" in result.stdout
    assert "Resumed" not in result.stdout


def test_a_checkpoint_of_other_pretrained_weights_is_not_resumed(opt_ml: OptMl) -> None:
    write_images(opt_ml.channel("train"), count=20)
    path = opt_ml.channel("pretrained") / "resnet18.safetensors"
    options = LONG | {"weights": "imagenet"}
    save_file(torch_resnet.build("resnet18", 1000).state_dict(), path)
    interrupt(opt_ml, signal.SIGKILL, expected=-signal.SIGKILL, options=options)
    save_file(torch_resnet.build("resnet18", 1000).state_dict(), path)
    result = opt_ml.train(options | {"epochs": "3"})
    assert result.returncode == 0
    assert "Starting anew: no checkpoint" in result.stdout


def test_an_int8_form_that_cannot_be_made_fails_no_job(opt_ml: OptMl, tmp_path: Path) -> None:
    (tmp_path / "nncf.py").write_text("raise RuntimeError('out of order')")
    write_images(opt_ml.channel("train"), count=10)
    options = {"int8-loss": "100", "profile": "false"}
    done = opt_ml.train(options, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "No int8 form: it cannot be made (RuntimeError: out of order)." in done.stdout
    assert opt_ml.facts()["int8"] is None
    assert not list((opt_ml.base / "checkpoints").glob("*.safetensors"))


def test_patience_ends_training_and_brings_the_best_epoch_back(opt_ml: OptMl) -> None:
    write_images(opt_ml.channel("train"), count=20)
    # A head whose learning rate is absurd gets worse sooner or later.
    result = opt_ml.train(
        {"trainable": "head", "epochs": "40", "patience": "2", "lr": "30", "batch-size": "4"}
    )
    assert result.returncode == 0, result.stderr
    epochs = [entry for entry in opt_ml.metrics() if "epoch" in entry]
    losses = [entry["validation:loss"] for entry in epochs]
    best = losses.index(min(losses))
    assert len(losses) == best + 3 < 40
    # What the tuner reads last is what the artifact holds.
    (back,) = [entry for entry in opt_ml.metrics() if "best_epoch" in entry]
    assert back["best_epoch"] == best + 1
    assert back["validation:loss"] == losses[best] == opt_ml.facts()["metrics"]["validation:loss"]
    printed = re.findall(metrics.VALIDATION_LOSS.regex, result.stdout)
    assert float(printed[-1]) == pytest.approx(losses[best], rel=1e-5)


def test_a_stopped_job_keeps_its_best_epoch(opt_ml: OptMl) -> None:
    write_images(opt_ml.channel("train"), count=20)
    # With this rate the loss jumps about, so that the last epoch is hardly ever the best.
    restless = {"epochs": "400", "batch-size": "8", "lr": "0.1", "schedule": "constant"}
    options = QUICK | restless | {"ema": "0.5", "profile": "false"}
    interrupt(opt_ml, signal.SIGTERM, expected=0, options=options, after="epoch 8/")
    losses = [entry["validation:loss"] for entry in opt_ml.metrics() if "epoch" in entry]
    assert opt_ml.facts()["metrics"]["validation:loss"] == min(losses)
    newest = max((opt_ml.base / "checkpoints").glob("*.safetensors"))
    checkpoint, saved = load_file(newest), load_file(opt_ml.base / "model/model.safetensors")
    assert np.array_equal(saved["fc.weight"], checkpoint["best/fc.weight"])
    assert not np.array_equal(saved["fc.weight"], checkpoint["network/fc.weight"])


@pytest.mark.parametrize("stopped", [False, True], ids=["at its end", "when it is stopped"])
def test_a_training_that_diverges_fails_with_a_sentence(opt_ml: OptMl, stopped: bool) -> None:
    write_images(opt_ml.channel("train"), count=20)
    absurd = {"lr": "1000", "optimizer": "sgd", "batch-size": "4", "profile": "false"}
    if stopped:
        options = QUICK | absurd | {"epochs": "400"}
        interrupt(opt_ml, signal.SIGTERM, expected=1, options=options, after="epoch 2/")
    else:
        assert opt_ml.train(absurd | {"epochs": "2"}).returncode == 1
    assert opt_ml.failure() == (
        "Training has diverged: the validation loss was not a finite number after any epoch. "
        "Lower lr, which was 1000."
    )
    assert not (opt_ml.base / "model/model.json").exists()
    report = json.loads((opt_ml.base / "output/data/report.json").read_text())
    assert report["failure"] == opt_ml.failure()
    for line in (opt_ml.base / "output/data/metrics.jsonl").read_text().splitlines():
        assert "NaN" not in line


def test_balanced_weights_make_every_class_count_alike() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    criterion = build_criterion(Hyperparameters(class_weights="balanced"), labels, 2)
    assert criterion.weight is not None
    assert criterion.weight.tolist() == pytest.approx([100 / 180, 5])
    assert build_criterion(Hyperparameters(), labels, 2).weight is None


def interrupt(
    opt_ml: OptMl,
    number: signal.Signals,
    *,
    expected: int,
    options: Mapping[str, str] = LONG,
    after: str = "epoch 1/",
) -> None:
    """Start a training, and send it a signal when its first epoch is done."""
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]
    process = opt_ml.start(*flags)
    assert process.stdout
    for line in process.stdout:
        if line.startswith(after):
            process.send_signal(number)
            break
    rest, errors = process.communicate(timeout=100)
    assert process.returncode == expected, errors
    assert f"epoch {options['epochs']}/" not in rest


def write_program(opt_ml: OptMl, text: str) -> None:
    """A script of the user's own, where SageMaker's SDK puts it."""
    for folder in ("code", "model"):
        (opt_ml.base / folder).mkdir()
    (opt_ml.base / "code/mine.py").write_text(text)


def test_script_mode_runs_the_users_own_program(opt_ml: OptMl) -> None:
    write_images(opt_ml.channel("train"))
    write_program(
        opt_ml,
        "import os, pathlib, sys\n"
        "seen = [os.environ['SM_CHANNEL_TRAIN'], *sys.argv[1:]]\n"
        "pathlib.Path(os.environ['SM_MODEL_DIR'], 'seen').write_text(' '.join(seen))\n",
    )
    opt_ml.write_config("hyperparameters.json", {"sagemaker_program": "mine.py", "depth": "3"})
    process = opt_ml.start()
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, output + errors
    assert (opt_ml.base / "model/seen").read_text() == f"{opt_ml.channel('train')} --depth 3"


def test_the_users_own_program_is_told_to_stop(opt_ml: OptMl) -> None:
    write_images(opt_ml.channel("train"))
    write_program(
        opt_ml,
        "import pathlib, signal, sys, time\n"
        "def stop(*_):\n"
        "    pathlib.Path(sys.argv[2]).write_text('stopped')\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "print('started', flush=True)\n"
        "time.sleep(100)\n",
    )
    note = opt_ml.base / "model/note"
    opt_ml.write_config("hyperparameters.json", {"sagemaker_program": "mine.py", "note": str(note)})
    process = opt_ml.start()
    assert process.stdout
    for line in process.stdout:
        if line == "started\n":
            process.send_signal(signal.SIGTERM)
            break
    process.communicate(timeout=60)
    assert note.read_text() == "stopped"


def test_a_terminal_gets_a_progress_bar(opt_ml: OptMl) -> None:
    write_images(opt_ml.channel("train"), count=20)
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [sys.executable, ROOT / "train", "--weights", "none", "--image-size", "32", "--views", "0"],
        env=opt_ml.environment(TERM="xterm"),
        stdout=subprocess.DEVNULL,
        stderr=follower,
    )
    os.close(follower)
    chunks: list[bytes] = []
    with contextlib.suppress(OSError):  # a terminal whose last writer is gone ends with an error
        while chunk := os.read(leader, 4096):
            chunks.append(chunk)
    os.close(leader)
    process.wait(timeout=60)
    shown = b"".join(chunks).decode()
    assert process.returncode == 0
    assert re.search(r"Decoding train images: +\d+%", shown)


def test_help_lists_every_hyperparameter_and_starts_fast(opt_ml: OptMl) -> None:
    result = subprocess.run(
        [sys.executable, "-X", "importtime", ROOT / "train", "--help"],
        env=opt_ml.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--batch-size" in result.stdout
    assert "example:" in result.stdout
    assert not re.search(r"\| +torch$", result.stderr, re.MULTILINE)


def test_the_learning_rate_warms_up_and_then_falls_to_zero() -> None:
    rates = [learning_rate(0.1, step, 100, Hyperparameters()) for step in range(101)]
    assert rates[0] == pytest.approx(0.02)
    assert rates[4] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(0.1)
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[100] == pytest.approx(0)
