import errno
import fcntl
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from opt_ml import QUICK, ROOT, OptMl, write_images
from safetensors.torch import load_file, save_file

from container import artifact, model, torch_resnet
from container.images import Preprocessing
from container.stopping import Stopped, StopSignal
from container.training.augmentation import Augmentation
from container.training.backbone import Backbone, Cut
from container.training.dataset import Split
from container.training.feature_store import FeatureStore, StoredRows, decode, encode
from container.training.frozen import (
    PLAIN,
    DecodedLater,
    FeatureExtractor,
    FrozenImages,
    view_names,
)
from container.training.head import Head, LastStage, Moments
from container.training.world import World

PREPROCESSING = Preprocessing.for_image_size(32)
HEAD = {"weights": "imagenet", "trainable": "head", "epochs": "4", "lr": "0.01"}


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
def test_frozen_and_trained_layers_together_are_the_torch_network(architecture: str) -> None:
    torch.manual_seed(0)
    network = torch_resnet.build(architecture, 3).eval()
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    with torch.inference_mode():
        pixels = model.normalise(torch.from_numpy(images), PREPROCESSING)
        expected = network(pixels)
        frozen = Backbone(network, architecture, PREPROCESSING, "float32", Cut.below("layer4"))
        scores = LastStage(network)(frozen(images))
        assert torch.allclose(scores, expected, rtol=1e-3, atol=1e-3)

        features = Backbone(network, architecture, PREPROCESSING, "float32", Cut.below("head"))(
            images
        )
        head = Head(network, Moments(features.mean(0), features.std(0) + 0.1))
        scores = head(features)
        assert not torch.allclose(scores, expected, rtol=1e-3, atol=1e-3)
        head.write_to(network)
        assert torch.allclose(network(pixels), scores, rtol=1e-3, atol=1e-3)


def of_rows(rows: torch.Tensor) -> FrozenImages:
    """Images of one view each, of which the frozen layers made these rows."""
    stored = StoredRows()
    if len(rows):
        stored.add([(n.to_bytes(2, "big"), PLAIN) for n in range(len(rows))], rows)
    positions, labels = np.arange(len(rows))[:, np.newaxis], np.zeros(len(rows), np.int64)
    return FrozenImages(stored, positions, labels, DecodedLater((), 32), (), ())


def test_a_head_sees_features_of_mean_0_and_variance_1() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(3000, 512, generator=generator) * torch.rand(512, generator=generator) + 5
    rows[:, 0] = 7
    head = Head(torch_resnet.build("resnet18", 3), Moments.of(of_rows(rows), 512, World()))
    seen = (rows - head.mean) / head.deviation
    assert torch.allclose(seen.mean(0), torch.zeros(512), atol=1e-3)
    assert (seen[:, 0] == 0).all()
    usual = seen.std(0)[rows.std(0) > 0.3]
    assert usual.min() > 0.9
    assert usual.max() < 1.001


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_images_for_a_variance_leave_features_as_they_come(count: int) -> None:
    moments = Moments.of(of_rows(torch.full((count, 512), 3.0)), 512, World())
    assert (moments.mean == 3.0 * count).all()
    assert (moments.deviation == 1).all()


def test_views_are_the_image_its_mirror_image_and_crops() -> None:
    assert view_names(1, flip=True, crop_scale=0.5) == ("plain",)
    assert view_names(2, flip=True, crop_scale=0.5) == ("plain", "mirrored")
    crops = view_names(4, flip=False, crop_scale=0.5)
    assert crops[0] == "plain"
    assert len(set(crops)) == 4
    assert "mirrored" not in " ".join(crops)


def test_what_is_written_is_read_by_digest_and_view(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "store")
    keys = [(bytes([n]) * 32, view) for n in range(3) for view in "ab"]
    rows = torch.arange(6 * 8).reshape(6, 2, 4).to(torch.bfloat16)
    with store.computing(StopSignal()):
        store.write(keys[:4], rows[:4])
        store.write(keys[4:], rows[4:])
    (tmp_path / "store/broken.safetensors").write_bytes(b"cut short")
    found = FeatureStore(tmp_path / "store").read()
    assert found.positions.keys() == set(keys)
    order = [5, 0, 3, 4, 0]
    positions = np.array([found.positions[keys[index]] for index in order])
    assert torch.equal(found.gather(positions), rows[order])


def test_what_is_encoded_is_decoded() -> None:
    keys = [(bytes([n]) * 32, view) for n in range(3) for view in "ba"]
    rows = torch.arange(6 * 8).reshape(6, 2, 4).to(torch.bfloat16)
    found, decoded = decode(encode(keys, rows))
    assert found == keys
    assert torch.equal(decoded, rows)


def test_stores_differ_with_whatever_decides_the_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KENNEL_CACHE_DIR", str(tmp_path))
    one, other = FeatureStore.of({"weights": "a"}), FeatureStore.of({"weights": "b"})
    assert one.directory != other.directory
    assert one.directory == FeatureStore.of({"weights": "a"}).directory
    assert one.directory.is_relative_to(tmp_path)


COMPUTE_ONCE = """
import sys
from pathlib import Path
import torch
from container.stopping import StopSignal
from container.training.feature_store import FeatureStore, StoredRows

directory = Path(sys.argv[1])
store = FeatureStore(directory)
with store.computing(StopSignal()):
    if not store.read().positions:
        print("computed")
        store.write([(b"x" * 32, "plain")], torch.zeros(1, 4))
"""


def test_of_many_processes_one_computes_and_the_others_wait(tmp_path: Path) -> None:
    command = [sys.executable, "-c", COMPUTE_ONCE, str(tmp_path)]
    processes = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert "".join(outputs).count("computed\n") == 1


def test_a_run_that_waits_for_another_can_be_stopped(opt_ml: OptMl) -> None:
    write_images(opt_ml.channel("train"))
    options = QUICK | {"trainable": "head", "profile": "false"}
    assert opt_ml.train(options).returncode == 0
    (path,) = (opt_ml.base.parent / "cache").rglob("lock")
    for features in path.parent.glob("*.safetensors"):
        features.unlink()
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = opt_ml.start(*(f"--{name}={value}" for name, value in options.items()))
        try:
            assert process.stdout
            assert any(line.startswith("Waiting for another run") for line in process.stdout)
            process.terminate()
            output, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    assert output.splitlines()[-1] == "Stopped as asked."


def test_a_stop_is_obeyed_before_all_images_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = tuple(sorted(write_images(tmp_path / "images", count=50).rglob("*.jpg")))
    stop, read = StopSignal(), []
    read_bytes = Path.read_bytes

    def read_one(path: Path) -> bytes:
        read.append(path)
        stop.requested = True
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", read_one)
    extractor = new_extractor(tmp_path / "store", stop)
    with pytest.raises(Stopped):
        extractor.extract({"train": (Split(paths, (0,) * len(paths)), (PLAIN,))})
    assert len(read) < 20


def new_extractor(store: Path, stop: StopSignal) -> FeatureExtractor:
    network = torch_resnet.build("resnet18", 2)
    return FeatureExtractor(
        Backbone(network, "resnet18", PREPROCESSING, "float32", Cut.below("head")),
        FeatureStore(store),
        PREPROCESSING,
        Augmentation(image_size=32, crop_scale=1, flip=False),
        stop,
    )


def test_an_image_that_the_disk_gives_at_the_second_try_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = tuple(sorted(write_images(tmp_path / "images", count=5).rglob("*.jpg")))
    failing = {paths[3]}
    read_bytes = Path.read_bytes

    def read(path: Path) -> bytes:
        if path in failing:
            failing.remove(path)
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    splits = {"train": (Split(paths, (0,) * len(paths)), (PLAIN,))}
    found = new_extractor(tmp_path / "store", StopSignal()).extract(splits)["train"]
    assert (found.paths, found.rejected) == (paths, ())
    again = new_extractor(tmp_path / "store", StopSignal())
    rows = [
        each.rows.gather(each.positions[:, 0]) for each in (found, again.extract(splits)["train"])
    ]
    assert again.computed == 0
    assert torch.equal(*rows)


@pytest.fixture
def job(opt_ml: OptMl) -> OptMl:
    """A job with two classes of images and weights for the backbone."""
    write_images(opt_ml.channel("train"), count=20)
    torch.manual_seed(0)
    weights = dict(torch_resnet.build("resnet18", 1000).state_dict())
    save_file(weights, opt_ml.channel("pretrained") / "resnet18.safetensors")
    return opt_ml


def test_a_second_run_finds_every_feature_even_with_another_split(job: OptMl) -> None:
    assert "Features: 68 computed" in job.train(HEAD).stdout
    digest = job.facts()["weights_sha256"]
    assert "Features: 0 computed" in job.train(HEAD | {"batch-size": "8"}).stdout
    again = job.train(HEAD)
    assert "Features: 0 computed" in again.stdout
    assert job.facts()["weights_sha256"] == digest
    # Another seed splits the images otherwise: only mirror images of new training images lack.
    other = re.search(r"Features: (\d+) computed", job.train(HEAD | {"seed": "1"}).stdout)
    assert other
    assert 0 < int(other[1]) <= 12


def test_cached_views_learn_what_the_plain_loop_learns(job: OptMl) -> None:
    accuracies = []
    for views in ("2", "0"):
        assert job.train(HEAD | {"views": views, "crop-scale": "1"}).returncode == 0
        accuracies.append(job.facts()["metrics"]["validation:accuracy"])
    assert accuracies == [1.0, 1.0]


@pytest.mark.parametrize("views", ["2", "0"])
def test_only_layer4_and_the_head_are_trained_and_the_artifact_is_whole(
    job: OptMl, views: str
) -> None:
    # Enough steps for the running statistics of the new batch normalisation to settle.
    steady = {"trainable": "layer4", "views": views, "batch-size": "8", "lr": "0.001"}
    result = job.train(HEAD | steady)
    assert result.returncode == 0, result.stderr
    assert job.facts()["metrics"]["validation:accuracy"] == 1
    given = load_file(job.channel("pretrained") / "resnet18.safetensors")
    made = load_file(job.base / "model/model.safetensors")
    kept = {name for name, tensor in made.items() if name[:2] != "fc" and tensor.equal(given[name])}
    assert kept == {name for name in made if not name.startswith(("layer4.", "fc."))}
    network = torch_resnet.build("resnet18", 2)
    network.load_state_dict(made, strict=False)
    images = artifact.reference_images(PREPROCESSING)
    with torch.inference_mode():
        scores = network.eval()(model.normalise(torch.from_numpy(images), PREPROCESSING))
    assert torch.allclose(scores, torch.tensor(job.facts()["reference_scores"]), atol=1e-4)


def test_a_stopped_training_of_layer4_goes_on_bit_for_bit(job: OptMl) -> None:
    options = HEAD | {"trainable": "layer4", "epochs": "3", "batch-size": "16"}
    assert job.train(options).returncode == 0
    digest = job.facts()["weights_sha256"]
    flags = [f"--{name}={value}" for name, value in (QUICK | options).items()]
    with job.start(*flags) as stopped:
        assert stopped.stdout
        for line in stopped.stdout:
            if line.startswith("epoch 1"):
                stopped.terminate()
    assert stopped.returncode == 0
    assert "Resumed" in job.train(options).stdout
    assert job.facts()["weights_sha256"] == digest


def test_an_unreadable_image_is_rejected_on_the_way_to_its_features(job: OptMl) -> None:
    (job.channel("train") / "cat/00.jpg").write_bytes(b"not an image")
    assert job.train(HEAD).returncode == 0
    assert job.facts()["data"]["rejected"] == 1
    assert job.train(HEAD).returncode == 0
    assert job.facts()["data"]["rejected"] == 1
