"""Whatever lies in a channel is used, or listed with a reason, or the job says why it failed."""

import csv
import io
import os
import re
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from forked_training import ForkedTraining
from opt_ml import QUICK, OptMl, write_images
from PIL import Image, PngImagePlugin

from container.errors import UserError
from container.hyperparameters import Hyperparameters
from container.stopping import StopSignal
from container.training import dataset, host_shards
from container.training.dataset import Dataset
from container.training.decoded import check_rejected, decode_split
from container.training.world import World

WIDTH, HEIGHT = 64, 40


def picture(mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(1).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def animated(kind: str) -> bytes:
    frames = [picture(), picture().rotate(180)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    return encoded(picture(), "JPEG", exif=exif)


def claimed(width: int, height: int) -> bytes:
    """A small PNG that says that it is large."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    small = encoded(picture(), "PNG")
    return small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:]


def text_bomb() -> bytes:
    information = PngImagePlugin.PngInfo()
    information.add_text("comment", "0" * 80_000_000, zip=True)
    return encoded(picture(), "PNG", pnginfo=information)


def sixteen_bits() -> bytes:
    values = np.random.default_rng(1).integers(0, 65535, (HEIGHT, WIDTH), dtype=np.uint16)
    return encoded(Image.fromarray(values), "PNG")


JPEG = encoded(picture(), "JPEG")
USABLE = {
    "cmyk.jpg": encoded(picture("CMYK"), "JPEG"),
    "grey.jpg": encoded(picture("L"), "JPEG"),
    "sixteen-bits.png": sixteen_bits(),
    "palette.png": encoded(picture("P"), "PNG", transparency=3),
    "transparent.png": encoded(picture("RGBA"), "PNG"),
    "bilevel.tif": encoded(picture("1"), "TIFF"),
    "animated.gif": animated("GIF"),
    "animated.webp": animated("WEBP"),
    "animated.png": animated("PNG"),
    "turned.jpg": rotated(),
    "a-png-by-another-name.jpg": encoded(picture(), "PNG"),
}
REJECTED = {
    "truncated.jpg": (JPEG[: len(JPEG) // 2], "The image is damaged"),
    "header-alone.png": (encoded(picture(), "PNG")[:40], "This is not an image"),
    "zero-bytes.png": (b"", "The image is empty: 0 bytes"),
    "text.jpg": (b"Not an image at all.", "This is not an image"),
    "page.png": (b"<!doctype html><title>404</title>", "This is not an image"),
    "drawing.bmp": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "This is not an image"),
    "document.jpg": (b"%PDF-1.7\n", "This is not an image"),
    "gigapixel.png": (claimed(40_000, 30_000), "The image has"),
    "bomb.png": (claimed(12_000, 12_000), "The image has"),
    "no-width.png": (claimed(0, 40), "The image is damaged|This is not an image"),
    "text-bomb.png": (text_bomb(), "The image is damaged"),
}


@pytest.fixture
def train(opt_ml: OptMl) -> Path:
    return write_images(opt_ml.channel("train"), count=20)


def find(train: Path) -> Dataset:
    return dataset.find({"train": train}, Hyperparameters(), train.parent / "scratch")


def reasons(train: Path, *, limit: float = 1) -> dict[str, str]:
    """Decode every image as training does; the names and reasons of those that it lists."""
    images = find(train)
    images.digest()
    splits = {
        name: decode_split(split, 32, name, StopSignal()) for name, split in images.splits().items()
    }
    report = train.parent / "rejected_images.csv"
    check_rejected(splits, host_shards.all_rejected(splits, images, World()), limit, report)
    if not report.exists():
        return {}
    with report.open(newline="") as file:
        return {Path(row["file"]).name: row["reason"] for row in csv.DictReader(file)}


@pytest.mark.parametrize("name", USABLE)
def test_unusual_images_are_used(train: Path, name: str) -> None:
    (train / "cat" / name).write_bytes(USABLE[name])
    assert reasons(train) == {}


@pytest.mark.parametrize("name", REJECTED)
def test_what_is_no_image_is_listed_with_its_reason(train: Path, name: str) -> None:
    content, reason = REJECTED[name]
    (train / "cat" / name).write_bytes(content)
    (found,) = reasons(train).items()
    assert found[0] == name
    assert re.match(reason, found[1])
    with pytest.raises(UserError, match="1 of 41 images") as caught:
        reasons(train, limit=0)
    assert len(str(caught.value)) <= 1024


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        ("dog", "None of the training images of dog can be read; of all 40 images 20 cannot."),
        ("*", "None of the train images can be read; of all 40 images 40 cannot."),
    ],
)
def test_a_class_that_cannot_be_read_is_named(train: Path, broken: str, sentence: str) -> None:
    for path in train.glob(f"{broken}/*.jpg"):
        path.write_bytes(b"no image")
    with pytest.raises(UserError) as caught:
        reasons(train)
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize("trainable", ["head", "all"])
def test_a_job_whose_images_are_all_broken_says_so(
    opt_ml: OptMl, train: Path, trainable: str
) -> None:
    for path in train.rglob("*.jpg"):
        path.write_bytes(b"no image")
    with ForkedTraining(opt_ml) as trainings:
        code = trainings.train(opt_ml, QUICK | {"profile": "false", "trainable": trainable})
    assert code == 1
    assert opt_ml.failure().startswith("None of the train images can be read")
    assert len((opt_ml.base / "output/data/rejected_images.csv").read_text().splitlines()) == 41


def rename_to_bytes(path: Path, name: bytes) -> None:
    path.rename(path.with_name(os.fsdecode(name)))


def test_names_of_files_need_not_be_utf_8(opt_ml: OptMl, train: Path) -> None:
    for number in range(1, 20):
        rename_to_bytes(train / f"cat/{number:02d}.jpg", b"caf\xe9%d.jpg" % number)
    (train / "cat/00.jpg").write_bytes(b"no image")
    rename_to_bytes(train / "cat/00.jpg", b"broken\xe9.jpg")
    options = QUICK | {"profile": "false", "trainable": "head"}
    with ForkedTraining(opt_ml) as trainings:
        assert trainings.train(opt_ml, options) == 0
        assert "broken\\udce9.jpg" in (opt_ml.base / "output/data/rejected_images.csv").read_text()
        assert trainings.train(opt_ml, options | {"rejected-limit": "0"}) == 1
    assert "broken\\udce9.jpg: This is not an image" in opt_ml.failure()


def test_a_class_whose_name_is_not_utf_8_is_named(train: Path) -> None:
    rename_to_bytes(train / "cat", b"caf\xe9")
    with pytest.raises(UserError, match=r"'caf\\udce9' .* is not UTF-8"):
        find(train)


def test_what_is_no_file_is_listed_and_never_waited_for(train: Path) -> None:
    (train / "cat/nowhere.jpg").symlink_to(train / "gone.jpg")
    os.mkfifo(train / "cat/pipe.jpg")
    (train / "cat/folder.jpg").mkdir()
    with (train / "cat/huge.jpg").open("wb") as file:
        file.truncate(2**40)
    found = reasons(train)
    assert set(found) == {"nowhere.jpg", "pipe.jpg", "huge.jpg"}
    assert found["huge.jpg"].startswith("The file is larger than")


def test_an_image_that_is_gone_when_it_is_decoded_is_listed(train: Path) -> None:
    images = find(train)
    gone = images.train.paths[0]
    assert isinstance(gone, Path)
    gone.unlink()
    images.digest()
    decoded = decode_split(images.train, 32, "train", StopSignal())
    assert [(each.path, each.reason) for each in decoded.rejected] == [
        (gone, "The file cannot be read: No such file or directory.")
    ]


def test_a_link_to_itself_is_listed_where_it_is_named_as_an_image(train: Path) -> None:
    for place in ("itself.jpg", "cat/itself.jpg", "cat/itself"):
        (train / place).symlink_to(train / place)
    images = find(train)
    assert images.classes == ("cat", "dog")
    assert {entry.path for entry in images.rejected} == {
        train / "itself.jpg",
        train / "cat/itself.jpg",
    }


def test_links_that_lead_back_make_no_class(train: Path) -> None:
    (train / "loop").symlink_to(train)
    (train / "cat/loop").symlink_to(train / "dog")
    (train / "dog/loop").symlink_to(train / "cat")
    images = find(train)
    assert images.classes == ("cat", "dog")


@contextmanager
def as_nobody() -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_an_unreadable_folder_is_named_and_an_unreadable_file_listed() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        train = write_images(Path(folder, "train"), count=20)
        (train / "cat/00.jpg").chmod(0)
        with as_nobody():
            images = find(train)
            decoded = decode_split(images.train, 32, "train", StopSignal())
            rest = [decode_split(each, 32, "", StopSignal()) for each in images.splits().values()]
        listed = {entry.reason for split in (decoded, *rest) for entry in split.rejected}
        assert listed == {"The file cannot be read: Permission denied."}
        (train / "dog").chmod(0)
        with as_nobody(), pytest.raises(UserError, match=r"dog cannot be read: Permission denied"):
            find(train)


def test_a_link_to_where_nobody_may_look_is_listed_and_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        train = write_images(Path(folder, "train"), count=20)
        secret = write_images(Path(folder, "secret"), count=1)
        (train / "linked.jpg").symlink_to(secret / "cat/00.jpg")
        (train / "emu").symlink_to(secret / "cat")
        secret.chmod(0)
        with as_nobody():
            images = find(train)
        assert images.classes == ("cat", "dog")
        assert {entry.path for entry in images.rejected} == {train / "linked.jpg"}
        said = capsys.readouterr().out
        assert f"Not used: {train}/emu cannot be read: Permission denied." in said


def test_an_unreadable_archive_is_one_sentence() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        archive = Path(folder, "train/data.tar")
        archive.parent.mkdir()
        archive.touch(0)
        with as_nobody(), pytest.raises(UserError) as caught:
            find(archive.parent)
        assert str(caught.value) == f"The archive {archive} cannot be read: Permission denied."


@contextmanager
def small_disk(directory: Path, size: str) -> Iterator[None]:
    directory.mkdir(parents=True, exist_ok=True)
    mount = ("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory))
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        yield
    finally:
        subprocess.run(("umount", str(directory)), check=True)


@pytest.mark.parametrize(
    ("full", "size", "options", "sentence"),
    [
        ("opt/ml/checkpoints", "20m", {}, "The disk is full"),
        ("opt/ml/model", "20m", {}, "The disk is full"),
        ("temporary", "64k", {}, "The disk of .*temporary is full"),
        ("opt/cache", "32k", {"trainable": "head"}, "The cache .* (is full|needs)"),
        ("opt/ml/output/tensors", "1m", {"debug": "full"}, ""),
    ],
)
def test_a_full_disk_ends_in_a_sentence_and_never_in_a_wait(
    opt_ml: OptMl, tmp_path: Path, full: str, size: str, options: dict[str, str], sentence: str
) -> None:
    write_images(opt_ml.channel("train"), count=20)
    quick = QUICK | {"profile": "false"} | options
    with small_disk(tmp_path / full, size):
        variables = {"TMPDIR": str(tmp_path / full)} if full == "temporary" else {}
        with ForkedTraining(opt_ml, **variables) as trainings:
            code = trainings.train(opt_ml, quick, seconds=100)
        # Tensors that cannot be saved are no reason to lose a training.
        assert code == (1 if sentence else 0), (tmp_path / "opt/log").read_text()
        if sentence:
            assert re.match(sentence, opt_ml.failure())
            assert len(opt_ml.failure().splitlines()) == 1
