"""What frozen layers make of images, computed by many processes, each for a part of them."""

from collections.abc import Mapping, Sequence

import numpy as np

from container.training.dataset import Split
from container.training.feature_store import FeatureStore, Key, StoredRows, decode, encode
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
    part = {
        name: (split.subset(range(world.rank, len(split), world.size)), views)
        for name, (split, views) in splits.items()
    }
    with world.together():
        extractor.extract(part)
    with world.together():
        rows = extractor.store.read()
        missing = sum(key not in rows for key in extractor.keys(splits))
        unreadable = sum(key not in rows for key in extractor.keys(part))
    # What nobody can read is missing everywhere, and nobody could send it.
    if world.any(missing > world.total(unreadable)[0]):
        own = [key for key in dict.fromkeys(extractor.keys(part)) if key in rows]
        _exchange(own, rows, extractor.store, world)
    # All that is left to compute now is what could not be read; each process learns what that is.
    with world.together():
        return extractor.extract(dict(splits))


def _exchange(keys: Sequence[Key], rows: StoredRows, store: FeatureStore, world: World) -> None:
    """Give every process's rows to the stores of all machines, a bounded part at a time.

    Args:
        keys: which of the rows in the store are of this process's images.
        rows: all that were in the store before.
        store: this machine's.
        world: the processes.
    """
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
                    _add_missing(content, rows, store)


def _add_missing(content: bytes, known: StoredRows, store: FeatureStore) -> None:
    """Store those rows of another machine that this one lacks."""
    keys, rows = decode(content)
    missing = [index for index, key in enumerate(keys) if key not in known]
    if missing:
        store.write([keys[index] for index in missing], rows[missing])
