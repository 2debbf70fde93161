"""Write scikit-learn's handwritten digits as folders of JPEGs: 1,797 real scans, 10 classes.

`python -m examples.digits DIRECTORY` makes DIRECTORY/{train,validation,test}/{0…9}/*.jpg.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

SIDE = 64
HELD_OUT_SHARE = 0.15


def write_digits(directory: Path, limit: int | None = None) -> None:
    """Write the scans, upscaled to SIDE pixels, split the same way every time.

    `limit` keeps only so many scans, for quick tests.
    """
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.images))[:limit]
    held_out = round(HELD_OUT_SHARE * len(order))
    splits = {
        "test": order[:held_out],
        "validation": order[held_out : 2 * held_out],
        "train": order[2 * held_out :],
    }
    for split, indices in splits.items():
        for index in indices:
            folder = directory / split / str(digits.target[index])
            folder.mkdir(parents=True, exist_ok=True)
            scan = (digits.images[index] * (255 / 16)).astype(np.uint8)
            image = Image.fromarray(scan).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            image.convert("RGB").save(folder / f"{index:04d}.jpg", quality=95)


if __name__ == "__main__":
    write_digits(Path(sys.argv[1]))
