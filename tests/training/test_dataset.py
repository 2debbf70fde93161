import io
import os
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from opt_ml import write_images

from container.errors import UserError
from container.hyperparameters import Hyperparameters
from container.job import JobEnvironment
from container.stopping import Stopped, StopSignal
from container.training import dataset, host_shards
from container.training.dataset import Dataset
from container.training.world import World


def find(tmp_path: Path, **channels: Path) -> Dataset:
    return dataset.find(channels, Hyperparameters(), tmp_path / "scratch")


def sizes(found: Dataset) -> tuple[int, int, int]:
    return len(found.train), len(found.validation), len(found.test)


@pytest.mark.parametrize("validation", ["validation", "valid", "val"])
def test_separate_channels(tmp_path: Path, validation: str) -> None:
    counts = {"train": 6, validation: 3, "test": 2}
    channels = {name: write_images(tmp_path / name, count=count) for name, count in counts.items()}
    found = find(tmp_path, **channels)
    assert found.classes == ("cat", "dog")
    assert sizes(found) == (12, 6, 4)
    assert Counter(found.train.labels) == {0: 6, 1: 6}


@pytest.mark.parametrize("name", ["train", "training"])
def test_one_channel_that_holds_the_split_folders(tmp_path: Path, name: str) -> None:
    for split in ("train", "valid", "test"):
        write_images(tmp_path / "data/dogImages" / split)
    channels = {name: tmp_path / "data"}
    assert sizes(find(tmp_path, **channels)) == (12, 12, 12)


def test_one_folder_of_classes_is_split_evenly_and_repeatably(tmp_path: Path) -> None:
    images = write_images(tmp_path / "data", ("ant", "bee", "cow"), count=20)
    found = find(tmp_path, train=images)
    assert sizes(found) == (42, 9, 9)
    assert Counter(found.test.labels) == {0: 3, 1: 3, 2: 3}
    paths = [*found.train.paths, *found.validation.paths, *found.test.paths]
    assert len(set(paths)) == 60
    assert found == find(tmp_path, train=images)
    assert found != dataset.find({"train": images}, Hyperparameters(seed=1), tmp_path)


def test_without_a_validation_channel_some_training_images_are_split_off(tmp_path: Path) -> None:
    train = write_images(tmp_path / "train", count=20)
    test = write_images(tmp_path / "test", count=5)
    assert sizes(find(tmp_path, train=train, test=test)) == (34, 6, 10)


def pack_tar(folder: Path, archive: Path) -> None:
    with tarfile.open(archive, "w") as tar:
        tar.add(folder, arcname="dogImages")


def pack_tar_gz(folder: Path, archive: Path) -> None:
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, arcname="dogImages")


def pack_zip(folder: Path, archive: Path) -> None:
    with zipfile.ZipFile(archive, "w") as zipped:
        for path in sorted(folder.rglob("*.jpg")):
            zipped.write(path, Path("dogImages") / path.relative_to(folder))
        zipped.writestr("__MACOSX/dogImages/._00.jpg", b"resource fork")


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("dogImages.tar", pack_tar),
        ("dogImages.tar.gz", pack_tar_gz),
        ("dogImages.tgz", pack_tar_gz),
        ("dogImages.zip", pack_zip),
    ],
)
def test_an_archive_in_a_channel_is_unpacked(
    tmp_path: Path, name: str, pack: Callable[[Path, Path], None]
) -> None:
    for split in ("train", "valid", "test"):
        write_images(tmp_path / "dogs" / split)
    (tmp_path / "channel").mkdir()
    pack(tmp_path / "dogs", tmp_path / "channel" / name)
    found = find(tmp_path, training=tmp_path / "channel")
    assert found.classes == ("cat", "dog")
    assert sizes(found) == (12, 12, 12)


def contents(found: Dataset) -> set[bytes]:
    return {path.read_bytes() for split in found.splits().values() for path in split.paths}


def reasons(found: Dataset) -> dict[str, str]:
    return {entry.path.name: entry.reason for entry in found.rejected}


def test_archives_that_hold_the_same_names_are_used_together(tmp_path: Path) -> None:
    whole = write_images(tmp_path / "whole", count=20)
    (tmp_path / "channel").mkdir()
    for number in range(2):
        with zipfile.ZipFile(tmp_path / f"channel/{number}.zip", "w") as zipped:
            for index in range(10):
                for name in ("cat", "dog"):
                    image = whole / name / f"{10 * number + index:02d}.jpg"
                    zipped.write(image, f"{name}/{index:02d}.jpg")
    found = find(tmp_path, train=tmp_path / "channel")
    assert sum(sizes(found)) == 40
    assert contents(found) == {path.read_bytes() for path in whole.rglob("*.jpg")}


@pytest.mark.parametrize(
    ("name", "pack"), [("more.tar", pack_tar), ("more.tgz", pack_tar_gz), ("more.zip", pack_zip)]
)
@pytest.mark.parametrize("splits", [(), ("train", "valid")])
def test_an_archive_and_the_folders_beside_it_are_used_together(
    tmp_path: Path,
    name: str,
    pack: Callable[[Path, Path], None],
    splits: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    for split in splits or (".",):
        write_images(tmp_path / "more" / split, ("dog", "emu"), count=10)
        write_images(tmp_path / "channel" / split, count=20)
    pack(tmp_path / "more", tmp_path / "channel" / name)
    (tmp_path / "channel/notes").mkdir()
    found = find(tmp_path, train=tmp_path / "channel")
    assert found.classes == ("cat", "dog", "emu")
    assert sum(sizes(found)) == 60 * (len(splits) or 1)
    assert "holds archives and folders of images: both are used." in capsys.readouterr().out


class StopAfter(StopSignal):
    """The job is asked to stop once it has looked so many times."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    def check(self) -> None:
        self.looks -= 1
        self.requested = self.looks <= 0
        super().check()


@pytest.mark.parametrize(("name", "pack"), [("data.tgz", pack_tar_gz), ("data.zip", pack_zip)])
def test_a_stop_is_obeyed_while_an_archive_is_unpacked(
    tmp_path: Path, name: str, pack: Callable[[Path, Path], None]
) -> None:
    (tmp_path / "channel").mkdir()
    pack(write_images(tmp_path / "images", count=20), tmp_path / "channel" / name)
    environment = JobEnvironment({"train": tmp_path / "channel"}, ("a",), "a", "lo")
    with pytest.raises(Stopped):
        host_shards.find(
            environment, Hyperparameters(), tmp_path / "scratch", World(), StopAfter(10)
        )
    assert 0 < len(list((tmp_path / "scratch").rglob("*.jpg"))) < 10


def test_images_outside_the_folders_of_classes_are_listed(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        write_images(tmp_path / "data/dogs" / split)
    image = tmp_path / "data/dogs/train/cat/00.jpg"
    places = {
        "root.jpg": "data",
        "wrapper.jpg": "data/dogs",
        "train.jpg": "data/dogs/train",
        "valid.jpg": "data/dogs/valid",
    }
    for name, folder in places.items():
        (tmp_path / folder / name).write_bytes(image.read_bytes())
    found = find(tmp_path, train=tmp_path / "data")
    assert found.classes == ("cat", "dog")
    assert sizes(found) == (12, 12, 0)
    assert reasons(found) == dict.fromkeys(places, "It is in no class's folder.")


@pytest.mark.parametrize("name", ["data.tar", "data.tar.gz"])
def test_hard_links_in_an_archive_are_images_and_other_links_are_listed(
    tmp_path: Path, name: str
) -> None:
    images = write_images(tmp_path / "images", count=10)
    for path in sorted(images.rglob("*.jpg")):
        path.with_name(f"x{path.name}").hardlink_to(path)
    (images / "cat/far.jpg").symlink_to("/etc/passwd")
    (tmp_path / "channel").mkdir()
    with tarfile.open(tmp_path / "channel" / name, "w:gz" if name.endswith("gz") else "w") as tar:
        tar.add(images, ".")
        for linked, target in (("lost", "cat/gone.jpg"), ("far", "cat/far.jpg")):
            link = tarfile.TarInfo(f"./cat/{linked}-link.jpg")
            link.type, link.linkname = tarfile.LNKTYPE, f"./{target}"
            tar.addfile(link)
    found = find(tmp_path, train=tmp_path / "channel")
    assert sum(sizes(found)) == 40
    assert Counter(path.read_bytes() for path in found.train.paths).most_common(1)[0][1] == 2
    assert contents(found) == {path.read_bytes() for path in images.glob("*/0*.jpg")}
    assert set(reasons(found)) == {"far.jpg", "far-link.jpg", "lost-link.jpg"}


def test_a_hard_link_cannot_lead_outside(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", count=10)
    (tmp_path / "channel").mkdir()
    for name, target in (("cat/0.jpg", "../../../secret.jpg"), ("../../evil.jpg", "cat/00.jpg")):
        with tarfile.open(tmp_path / "channel/data.tgz", "w:gz") as tar:
            tar.add(images, ".")
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.LNKTYPE, target
            tar.addfile(link)
        with pytest.raises(UserError, match="cannot be unpacked"):
            find(tmp_path, train=tmp_path / "channel")


def hostile_tar(path: Path, **attributes: object) -> Path:
    path.parent.mkdir()
    member = tarfile.TarInfo("evil.jpg")
    member.size = 4
    for name, value in attributes.items():
        setattr(member, name, value)
    with tarfile.open(path, "w") as tar:
        tar.addfile(member, io.BytesIO(b"data"))
    return path.parent


@pytest.mark.parametrize("name", ["../../evil.jpg", "/tmp/evil.jpg"])  # noqa: S108
def test_an_archive_cannot_write_outside_its_folder(tmp_path: Path, name: str) -> None:
    channel = hostile_tar(tmp_path / "channel/data.tar", name=name)
    with pytest.raises(UserError):
        find(tmp_path, train=channel)
    assert not list(tmp_path.glob("evil.jpg"))
    assert not Path("/tmp/evil.jpg").exists()  # noqa: S108


def test_links_in_an_archive_are_left_out(tmp_path: Path) -> None:
    channel = hostile_tar(
        tmp_path / "channel/data.tar", type=tarfile.SYMTYPE, linkname="/etc/passwd"
    )
    with pytest.raises(UserError, match="one folder of images per class"):
        find(tmp_path, train=channel)
    assert not (tmp_path / "scratch/train/evil.jpg").exists()


def test_an_archive_bomb_is_refused(tmp_path: Path) -> None:
    (tmp_path / "channel").mkdir()
    with zipfile.ZipFile(tmp_path / "channel/data.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("cat/zeros.jpg", bytes(50_000_000))
    with pytest.raises(UserError, match="does not fit"):
        find(tmp_path, train=tmp_path / "channel")


@pytest.mark.parametrize("name", ["data.tar", "data.tar.gz", "data.zip"])
def test_a_damaged_archive_is_one_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "channel").mkdir()
    (tmp_path / "channel" / name).write_bytes(b"\x1f\x8b broken" * 50)
    with pytest.raises(UserError, match="cannot be unpacked"):
        find(tmp_path, train=tmp_path / "channel")


def test_a_class_that_training_lacks_is_named(tmp_path: Path) -> None:
    train = write_images(tmp_path / "train")
    test = write_images(tmp_path / "test", ("cat", "wolf"))
    with pytest.raises(
        UserError, match=r"test images have classes that the training .* lack: wolf"
    ):
        find(tmp_path, train=train, test=test)


def test_a_split_may_lack_a_class(tmp_path: Path) -> None:
    train = write_images(tmp_path / "train")
    test = write_images(tmp_path / "test", ("dog",))
    assert set(find(tmp_path, train=train, test=test).test.labels) == {1}


def test_a_class_may_have_the_name_of_a_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vehicles = write_images(tmp_path / "vehicles", ("bus", "car", "Train"), count=20)
    found = find(tmp_path, train=vehicles)
    assert found.classes == ("Train", "bus", "car")
    assert sizes(found) == (42, 9, 9)
    for split in ("train", "valid"):
        write_images(tmp_path / "splits" / split, ("car", "train"))
    write_images(tmp_path / os.fsdecode(b"splits/caf\xe9"))
    found = find(tmp_path, train=tmp_path / "splits")
    assert found.classes == ("car", "train")
    assert sizes(found) == (12, 12, 0)
    assert "Not used: caf\\udce9 in" in capsys.readouterr().out


def test_splits_without_folders_of_classes_are_no_classes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least two; found none"):
        find(tmp_path, train=write_images(tmp_path / "data", ("train", "test")))


@pytest.mark.parametrize("wrapper", ["", "dogImages"])
def test_a_split_of_one_class_may_have_folders_inside(tmp_path: Path, wrapper: str) -> None:
    train = write_images(tmp_path / "train", count=10)
    write_images(tmp_path / "validation" / wrapper / "cat", ("indoor", "outdoor"), count=3)
    found = find(tmp_path, train=train, validation=tmp_path / "validation")
    assert found.classes == ("cat", "dog")
    assert found.validation.labels == (0,) * 6


def test_one_class_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least two; found cat"):
        find(tmp_path, train=write_images(tmp_path / "train", ("cat",)))


@pytest.mark.parametrize(("channel", "split"), [("valid", "validation"), ("test", "test")])
def test_a_split_with_a_channel_and_a_folder_beside_the_training_images_is_refused(
    tmp_path: Path, channel: str, split: str
) -> None:
    for folder in ("train", channel):
        write_images(tmp_path / "data/dogs" / folder, count=20)
    channels = {"train": tmp_path / "data", channel: write_images(tmp_path / channel)}
    with pytest.raises(UserError) as caught:
        find(tmp_path, **channels)
    assert str(caught.value) == f"The {split} images are given in two channels; keep one."


def test_classes_with_equal_numbers_are_in_the_order_of_their_names(tmp_path: Path) -> None:
    train = write_images(tmp_path / "train", ("2", "1", "01"), count=20)
    looked = dataset.look({"train": train}, tmp_path / "scratch", StopSignal())
    found = looked.opened(looked.wrappers)
    for names in (["1", "01", "2"], ["01", "2", "1"]):
        assert dataset.assemble(found, names, Hyperparameters()).classes == ("01", "1", "2")


def test_a_class_without_images_is_named(tmp_path: Path) -> None:
    train = write_images(tmp_path / "train")
    (train / "emu").mkdir()
    (train / "emu/notes.txt").touch()
    with pytest.raises(UserError, match=r"no training images in .*emu"):
        find(tmp_path, train=train)


def test_too_few_images_to_split_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There are no validation images"):
        find(tmp_path, train=write_images(tmp_path / "train", count=1))


def test_a_channel_of_another_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no channel named train or training; found images"):
        find(tmp_path, images=write_images(tmp_path / "images"))


def test_hidden_folders_and_loops_of_links_are_passed_over(tmp_path: Path) -> None:
    train = write_images(tmp_path / "train", count=20)
    write_images(train, (".ipynb_checkpoints",))
    (train / "cat/loop").symlink_to(train)
    found = find(tmp_path, train=train)
    assert found.classes == ("cat", "dog")
    assert sum(sizes(found)) == 40


def test_the_digest_follows_the_images_not_their_place(tmp_path: Path) -> None:
    first = find(tmp_path, train=write_images(tmp_path / "a", count=20))
    second = find(tmp_path, train=write_images(tmp_path / "b", count=20))
    third = find(tmp_path, train=write_images(tmp_path / "c", count=21))
    assert first.digest() == second.digest() != third.digest()
