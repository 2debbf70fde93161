"""The images of this process where a channel arrives ShardedByS3Key, so each host has others."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from container.errors import UserError
from container.hyperparameters import Hyperparameters
from container.image_files import Rejected
from container.job import JobEnvironment
from container.stopping import StopSignal
from container.training import dataset
from container.training.dataset import Dataset, Found, Split
from container.training.decoded import Census, SplitImages
from container.training.source import Share, steps_per_epoch
from container.training.world import World


def find(
    environment: JobEnvironment,
    options: Hyperparameters,
    scratch: Path,
    world: World,
    stop: StopSignal,
) -> Dataset:
    """All images of the job, or where channels are sharded this process's.

    Raises:
        UserError: see dataset.find.
        Stopped: the job was asked to stop while archives were read.
    """
    with world.together():
        looked = dataset.look(environment.channels, scratch, stop)
    parted = looked.channels["train"] in environment.sharded
    wrappers = _wrappers(looked, world if parted else World())
    with world.together():
        found = looked.opened(wrappers)
    sharded = {split for split, channel in found.channels.items() if channel in environment.sharded}
    if world.size == 1 or not sharded:
        with world.together():
            return dataset.assemble(found, found.classes, options)
    everywhere = world.gather(json.dumps(sorted(found.classes)).encode())
    names = {name for content in everywhere for name in json.loads(content)}
    with world.together():
        images = dataset.assemble(found, names, options)
    counts = world.total(*(images.train.labels.count(n) for n in range(len(images.classes))))
    if not all(counts):
        raise UserError(
            f"There are no training images of {images.classes[counts.index(0)]} on any host, so "
            "its class cannot be learned."
        )
    if "validation" not in found.roots and "train" in sharded:
        sharded |= {"validation", "test"} - set(found.roots)
    own = {name: _own(split, world, name in sharded) for name, split in images.splits().items()}
    return replace(
        images, train=own["train"], validation=own["validation"], test=own["test"], parted=True
    )


def _wrappers(found: Found, world: World) -> list[str]:
    """The folders in which all training images of this machine are, and which are no classes.

    Of the images of one machine alone this says little: all may be of one class, with folders in
    it. So what all machines have wraps, and what wraps folders that another has right away.
    """
    root = found.roots["train"]
    own = found.wrappers if root.folders else None
    everywhere = map(json.loads, world.gather(json.dumps(own).encode()))
    levels = zip(*(names for names in everywhere if names is not None), strict=False)
    common = [names[0] for names in takewhile(lambda names: len(set(names)) == 1, levels)]
    opened = root.opened(*common) if own is not None else root
    held = world.gather(json.dumps(list(opened.folders)).encode())
    holders = Counter(name for content in held for name in json.loads(content))
    for name in (own or [])[len(common) : len(common) + 1]:
        inner = set(opened.folders[name].folders) - {name}
        if holders[name] == 1 and any(holders[each] for each in inner):
            common.append(name)
    return common


def shares(
    splits: Mapping[str, SplitImages], images: Dataset, batch_size: int, world: World
) -> dict[str, Share]:
    """What of each split this process trains on, or evaluates.

    Raises:
        UserError: a batch is too small to be parted, a process has no training image, or processes
            that should have the same images can read different ones.
    """
    if world.size > 1 and not images.parted:
        _check_alike(splits, world)
    found = {}
    for name, split in splits.items():
        total = round(world.total(len(split))[0]) if images.parted else None
        found[name] = Share(world.rank, world.size, total)
    train, held = found["train"], len(splits["train"])
    if not train.images(held):
        return found  # no process has any: once all is counted, the job fails and says why
    with world.together():
        if not held:
            raise UserError(
                f"A process on {world.host} has no training image that can be read, and others "
                "have; give each host some, or take fewer instances."
            )
        least = held // steps_per_epoch(train.images(held), batch_size)
        if least < (1 if images.parted else world.size):
            raise UserError(
                f"Batches of {batch_size} images are too few to give each of {world.size} "
                f"processes one of its {held} images; raise batch-size, or take fewer instances."
            )
    return found


def _check_alike(splits: Mapping[str, SplitImages], world: World) -> None:
    """Raise UserError where a process can read other images than the first.

    They would part different batches, and may even take different numbers of steps.
    """
    # Sizes say nothing about how batches are parted, and would be asked of the disk once more.
    own = dataset.fingerprint(
        ((split.paths, split.labels) for split in splits.values()), with_sizes=False
    )
    content = json.dumps([world.host, sum(map(len, splits.values())), own])
    (first, expected, wanted), *others = map(json.loads, world.gather(content.encode()))
    for host, count, found in others:
        if found != wanted:
            raise UserError(
                f"The {count} images that a process on {host} can read are not the {expected} that "
                f"the first can, on {first}. Give every host the same images, or let them arrive "
                "ShardedByS3Key."
            )


def all_labels(labels: NDArray[np.int64], images: Dataset, world: World) -> NDArray[np.int64]:
    """The labels of all processes' images."""
    if not images.parted:
        return labels
    together: NDArray[np.int64] = world.gather_rows({"labels": torch.from_numpy(labels)})[
        "labels"
    ].numpy()
    return together


def all_rejected(splits: Mapping[str, SplitImages], images: Dataset, world: World) -> Census:
    """What is rejected beside this process's splits, and what all processes can read."""
    everywhere = world if images.parted else World()
    names = list(splits)
    readable = everywhere.total(*(len(splits[name]) for name in names))
    unreadable = everywhere.total(*(len(splits[name].rejected) for name in names))
    learned = everywhere.total(
        *np.bincount(splits["train"].labels, minlength=len(images.classes)).tolist()
    )
    lost = [
        f"None of the {name} images"
        for name, count, failed in zip(names, readable, unreadable, strict=True)
        if failed and not count
    ] + [
        f"None of the training images of {name}"
        for name, count in zip(images.classes, learned, strict=True)
        if not count
    ]
    return Census(
        _others_rejected(splits, images, everywhere), round(sum(readable)), "".join(lost[:1])
    )


def _others_rejected(
    splits: Mapping[str, SplitImages], images: Dataset, world: World
) -> list[Rejected]:
    # What has no class on a machine, each of its processes has found: the first alone tells.
    classless = images.rejected if world.local_rank == 0 else ()
    own = [*classless, *(entry for split in splits.values() for entry in split.rejected)]
    content = json.dumps([(f"{world.host}:{entry.path}", entry.reason) for entry in own])
    others = [
        Rejected(Path(place), reason)
        for rank, part in enumerate(world.gather(content.encode()))
        if rank != world.rank
        for place, reason in json.loads(part)
    ]
    return [*classless, *others]


def _own(split: Split, world: World, sharded: bool) -> Split:
    """Of what this machine alone has, the part of this process; of what all have, too."""
    if sharded:
        return split.subset(range(world.local_rank, len(split), world.local_size))
    return split.subset(range(world.rank, len(split), world.size))
