"""Large sets as uncompressed tar archives, which are read where they lie."""

import csv
import io
import tarfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from opt_ml import OptMl, write_images

from container.errors import UserError
from container.hyperparameters import Hyperparameters
from container.image_files import Member
from container.training import dataset
from container.training.dataset import Dataset


def find(tmp_path: Path, channel: Path) -> Dataset:
    found = dataset.find({"train": channel}, Hyperparameters(), tmp_path / "scratch")
    assert not (tmp_path / "scratch").exists()
    return found


def write_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path.parent


@pytest.fixture
def images(tmp_path: Path) -> list[tuple[str, bytes]]:
    """Twenty cats, then twenty dogs."""
    folder = write_images(tmp_path / "images", count=20)
    return [(path.parent.name, path.read_bytes()) for path in sorted(folder.rglob("*.jpg"))]


def samples(images: list[tuple[str, bytes]], *, numbered: bool = False) -> dict[str, bytes]:
    """WebDataset's samples of a shard."""
    members = {}
    for number, (name, content) in enumerate(images):
        members[f"{number:06d}.jpg"] = content
        label = str(["cat", "dog"].index(name) + 9) if numbered else name
        members[f"{number:06d}.cls"] = f"{label}\n".encode()
    return members


def test_samples_with_names_of_classes(tmp_path: Path, images: list[tuple[str, bytes]]) -> None:
    # The same keys in both shards are other samples.
    write_tar(tmp_path / "channel/shard-0.tar", samples(images[:30]))
    beside = {"._000000.jpg": b"of macOS", "._000000.cls": b"\0\5\x16\7 of macOS"}
    channel = write_tar(tmp_path / "channel/shard-1.tar", samples(images[30:]) | beside)
    found = find(tmp_path, channel)
    assert found.classes == ("cat", "dog")
    assert not found.rejected
    splits = found.splits().values()
    assert Counter(label for split in splits for label in split.labels) == {0: 20, 1: 20}
    content = {path.read_bytes() for split in splits for path in split.paths}
    assert content == {content for _, content in images}


def test_numbers_of_classes_keep_their_order(
    tmp_path: Path, images: list[tuple[str, bytes]]
) -> None:
    channel = write_tar(tmp_path / "channel/shard.tar", samples(images, numbered=True))
    assert find(tmp_path, channel).classes == ("9", "10")


def test_folders_of_classes(tmp_path: Path, images: list[tuple[str, bytes]]) -> None:
    members = {f"./data/{name}/{number}.jpg": each for number, (name, each) in enumerate(images)}
    channel = write_tar(tmp_path / "channel/shard.tar", members | {"data/.hidden/x.jpg": b"x"})
    found = find(tmp_path, channel)
    assert found.classes == ("cat", "dog")
    assert sum(len(split) for split in found.splits().values()) == 40


def test_a_shard_is_read_from_its_start_to_its_end(
    tmp_path: Path, images: list[tuple[str, bytes]]
) -> None:
    mixed = [images[number // 2 + 20 * (number % 2)] for number in range(40)]
    channel = write_tar(tmp_path / "channel/shard.tar", samples(mixed))
    places = [path.offset for path in find(tmp_path, channel).train.paths if type(path) is Member]
    assert len(places) == 28
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"a.jpg": b"x", "a.cls": b"../up"}, "which is no name for a class"),
        ({"a.jpg": b"x", "a.cls": b"x" * 2000}, "too large to be the name of a class"),
        ({"a.jpg": b"x", "a.cls": b"\xff"}, "cannot be read"),
    ],
)
def test_a_class_that_is_no_name_is_refused(
    tmp_path: Path, members: Mapping[str, bytes], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        find(tmp_path, write_tar(tmp_path / "channel/shard.tar", members))


@pytest.mark.parametrize("share", [0.3, 0.5, 0.99])
def test_a_shard_that_ends_early_is_refused(tmp_path: Path, share: float) -> None:
    members = {"cat/0.jpg": bytes(1000), "dog/0.jpg": bytes(1000)}
    channel = write_tar(tmp_path / "channel/shard.tar", members)
    path = channel / "shard.tar"
    path.write_bytes(path.read_bytes()[: int(share * 3000)])
    with pytest.raises(UserError, match="cannot be read"):
        find(tmp_path, channel)


def test_a_shard_without_classes_beside_one_with_them_is_listed(
    tmp_path: Path, images: list[tuple[str, bytes]]
) -> None:
    lacking = {f"b{name}": each for name, each in samples(images).items() if name.endswith(".jpg")}
    write_tar(tmp_path / "channel/a.tar", samples(images))
    write_tar(tmp_path / "channel/b.tar", lacking)
    channel = write_tar(
        tmp_path / "channel/c.tar", {f"emu/{number}.jpg": images[number][1] for number in range(2)}
    )
    found = find(tmp_path, channel)
    assert found.classes == ("cat", "dog", "emu")
    assert sum(len(split) for split in found.splits().values()) == 42
    assert {entry.path.name for entry in found.rejected} == set(lacking)
    assert {entry.reason for entry in found.rejected} == {"It is in no class's folder."}


def test_masks_beside_the_images_of_samples_are_not_trained_on(
    tmp_path: Path, images: list[tuple[str, bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    members = samples(images)
    for number in range(40):
        members[f"{number:06d}.seg.png"] = b"mask"
        members[f"{number:06d}.scene.cls"] = b"indoor"
    members |= {"000040.image.png": b"other", "000040.cls": b"cat"}
    found = find(tmp_path, write_tar(tmp_path / "channel/shard.tar", members))
    assert found.classes == ("cat", "dog")
    splits = found.splits().values()
    names = {path.name for split in splits for path in split.paths}
    assert names == {name for name in members if name.endswith(".jpg")}
    assert {entry.path.name: entry.reason for entry in found.rejected} == {
        "000040.image.png": "Its sample has no image that is named KEY.png."
    }
    assert "beside images of samples: 40 .seg.png." in capsys.readouterr().out


def test_training_on_shards_lists_what_it_cannot_use(
    opt_ml: OptMl, images: list[tuple[str, bytes]]
) -> None:
    broken = {"broken.jpg": images[0][1][:300], "broken.cls": b"cat", "lonely.jpg": images[0][1]}
    write_tar(opt_ml.channel("train") / "shard.tar", samples(images) | broken)
    result = opt_ml.train({"trainable": "head"})
    assert result.returncode == 0, result.stderr
    with (opt_ml.base / "output/data/rejected_images.csv").open(newline="") as file:
        reasons = {row["file"].rpartition(":")[2]: row["reason"] for row in csv.DictReader(file)}
    assert reasons["lonely.jpg"] == "Its sample has no .cls file, so no class."
    assert reasons["broken.jpg"].startswith("The image is damaged")
    assert opt_ml.facts()["data"]["rejected"] == 2
