"""A drawn stand-in for the dog-breed photographs: the same 133 folders, and an animal on each JPEG.

`python -m examples.breeds dogImages` writes dogImages/{train,valid,test}/001.Affenpinscher/*.jpg;
`python -m examples.breeds --wild wild` writes classes that are none of them, to pretrain on.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path

import numpy as np
from PIL import Image

from examples.animals import Animal

BREEDS = Path(__file__).with_name("breeds.txt").read_text(encoding="utf-8").split()
SPLITS = {"train": 10, "valid": 2, "test": 2}
"""Images of a class; the photographs have 50, 6 and 6 on average."""
WILD_CLASSES = 60
WILD_SPLITS = {"train": 36, "valid": 4}
_FIRST_WILD = 1000


def write_breeds(directory: Path, share: float = 1.0) -> None:
    """Draw the 133 breeds; `share` of the images, for quick tests."""
    names = [f"{number:03d}.{breed}" for number, breed in enumerate(BREEDS, 1)]
    _write(directory, names, SPLITS, share, first=0)


def write_wild(directory: Path, share: float = 1.0) -> None:
    """Draw animals of other kinds."""
    names = [f"wild-{number:03d}" for number in range(WILD_CLASSES)]
    _write(directory, names, WILD_SPLITS, share, first=_FIRST_WILD)


def _write(
    directory: Path, names: list[str], splits: dict[str, int], share: float, first: int
) -> None:
    counts = {split: max(1, round(count * share)) for split, count in splits.items()}
    kinds = range(first, first + len(names))
    with ProcessPoolExecutor() as pool:
        for _ in pool.map(_write_class, repeat(directory), names, kinds, repeat(counts)):
            pass  # what went wrong is raised here


def _write_class(directory: Path, name: str, kind: int, counts: dict[str, int]) -> None:
    animal = Animal.of_kind(kind)
    stem = name.partition(".")[2] or name
    for number, (split, count) in enumerate(counts.items()):
        folder = directory / split / name
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            photograph = animal.draw(np.random.default_rng((kind, number, index)))
            path = folder / f"{stem}_{number}{index:04d}.jpg"
            Image.fromarray(photograph).save(path, quality=88)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.breeds", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--wild", action="store_true", help="the classes to pretrain on")
    parser.add_argument("--share", type=float, default=1.0, help="of the images (1.0)")
    options = parser.parse_args()
    (write_wild if options.wild else write_breeds)(options.directory, options.share)


if __name__ == "__main__":
    main()
