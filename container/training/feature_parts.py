"""What frozen layers make of images, computed by many processes, each for a part of them."""

from collections.abc import Mapping

import numpy as np

from container.training.dataset import Split
from container.training.feature_store import FeatureStore, Key, StoredRows, encode
from container.training.frozen import FeatureExtractor, FrozenImages
from container.training.world import World

BYTES_AT_ONCE = 64 * 2**20


def compute_together(
    extractor: FeatureExtractor, splits: Mapping[str, tuple[Split, tuple[str, ...]]], world: World
) -> dict[str, FrozenImages]:
    """The rows of every split for every process, where all of them hold all images.

    Raises:
        UserError: the cache's disk is full in one of the processes.
        Stopped: one of them was asked to stop.
    """
    if world.size == 1:
        return extractor.extract(dict(splits))
    with world.together():
        own = extractor.extract(
            {
                name: (split.subset(range(world.rank, len(split), world.size)), views)
                for name, (split, views) in splits.items()
            }
        )
    rows = next(iter(own.values())).rows
    _exchange(_keys(own, rows), rows, extractor.store, world)
    # All that is left to compute now is what could not be read; each process learns what that is.
    with world.together():
        return extractor.extract(dict(splits))


def _keys(own: Mapping[str, FrozenImages], rows: StoredRows) -> list[Key]:
    """The rows of this process's images, which may be a few of all that are in its store."""
    wanted = {int(position) for images in own.values() for position in images.positions.flat}
    return [key for key, position in rows.positions.items() if position in wanted]


def _exchange(keys: list[Key], rows: StoredRows, store: FeatureStore, world: World) -> None:
    """Give every process's rows to the stores of all machines, a bounded part at a time."""
    positions = np.array([rows.positions[key] for key in keys], np.int64)
    step = max(1, BYTES_AT_ONCE // max(1, rows.gather(positions[:1]).nbytes))
    machine = world.rank // world.local_size
    for number in range(max(map(int, world.gather(b"%d" % -(-len(keys) // step))))):
        part = slice(number * step, (number + 1) * step)
        content = encode(keys[part], rows.gather(positions[part])) if keys[part] else b""
        received = world.gather(content)
        with world.together():
            for rank, content in enumerate(received):
                if content and world.local_rank == 0 and rank // world.local_size != machine:
                    store.add(content)
