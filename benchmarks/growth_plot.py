"""The picture of `benchmarks.growth`: seconds and memory over the number of images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

GREY = "#808080"
"""Readable on white and on black."""
COLOURS = ("#3b82f6", "#e2761b")


@dataclass(frozen=True)
class Point:
    """What training on a number of images took."""

    images: int
    seconds: float
    """From the network's weights in memory to the end of the last epoch."""
    processor: float
    """Seconds of one processor, for the whole job with its imports."""
    own_memory: int
    """Bytes at the peak, without pages of mapped files."""
    memory: int
    """The same with them."""

    def __str__(self) -> str:
        return (
            f"{self.processor:.0f} s of one processor; "
            f"{self.own_memory / 1e9:.2f} GB, with pages of mapped files {self.memory / 1e9:.2f} GB"
        )


def draw(ways: Mapping[str, Sequence[Point]], picture: Path) -> None:
    """Write a PNG with a transparent background."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    plt.rc("font", size=11)
    plt.rc("text", color=GREY)
    plt.rc("axes", edgecolor=GREY, labelcolor=GREY, titlecolor=GREY)
    for axis in ("xtick", "ytick"):
        plt.rc(axis, color=GREY)
    figure, (time, memory) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    for (name, points), colour in zip(ways.items(), COLOURS, strict=True):
        images = [point.images for point in points]
        seconds, own, whole = (
            [point.processor for point in points],
            [point.own_memory / 1e9 for point in points],
            [point.memory / 1e9 for point in points],
        )
        time.plot(images, seconds, "o-", color=colour, label=name)
        memory.plot(images, own, "o-", color=colour, label=name)
        memory.plot(images, whole, "o:", color=colour, label=f"{name}, with mapped files")
    time.set(xscale="log", yscale="log", title="seconds of one processor", xlabel="images")
    memory.set(xscale="log", ylim=(0, None), title="GB of memory at the peak", xlabel="images")
    for axes in (time, memory):
        axes.grid(color=GREY, alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9)
    figure.savefig(picture, dpi=110, transparent=True)
    plt.close(figure)
