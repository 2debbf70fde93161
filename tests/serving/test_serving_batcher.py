"""The batcher: what shares a batch, whose answer is whose, and how it fails."""

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from container.images import Pixels
from container.serving.engines.batcher import Batcher
from container.serving.engines.engine import Images, Scores
from container.serving.engines.turns import OverloadedError


class Gated:
    """An engine whose score is the image's own number, and which waits until it is let go."""

    name, precision, lanes, batch = "gated", "float32", 1, 4

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.entered = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)

    def scores(self, images: Images, present: int = 1) -> Scores:
        self.entered.release()
        assert self.gate.acquire(timeout=10)
        self.batches.append(len(images))
        if images.max() == 255:
            raise ZeroDivisionError
        return images.reshape(len(images), -1)[:, :1].astype(np.float32)


def image(number: int) -> Pixels:
    return np.full((2, 2, 3), number, np.uint8)


def test_what_comes_while_the_engine_is_busy_shares_batches_and_keeps_its_own_answers() -> None:
    engine = Gated()
    batcher = Batcher(engine, patience=60)
    with ThreadPoolExecutor(10) as pool:
        answers = [pool.submit(batcher.scores, [image(0)])]
        assert engine.entered.acquire(timeout=10), "an idle engine is given the image at once"
        answers += [pool.submit(batcher.scores, [image(number)]) for number in range(1, 10)]
        while batcher.waiting < 9:
            threading.Event().wait(0.001)
        engine.gate.release(10)
        assert [answer.result(10).item() for answer in answers] == list(range(10))
    assert engine.batches == [1, 4, 4, 1]
    assert batcher.batches == {1: 2, 4: 2}


def test_several_images_of_one_request_come_back_in_their_order() -> None:
    engine = Gated()
    engine.gate.release(10)
    batcher = Batcher(engine, patience=60)
    assert batcher.scores([image(number) for number in (3, 1, 2)])[:, 0].tolist() == [3, 1, 2]


def test_an_error_is_that_batch_s_alone() -> None:
    engine = Gated()
    engine.gate.release(10)
    batcher = Batcher(engine, patience=60)
    with pytest.raises(ZeroDivisionError):
        batcher.scores([image(255)])
    assert batcher.scores([image(7)]).item() == 7


def test_an_image_that_waited_too_long_is_not_scored() -> None:
    engine = Gated()
    batcher = Batcher(engine, patience=0.02)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(batcher.scores, [image(1)])
        assert engine.entered.acquire(timeout=10)
        late = pool.submit(batcher.scores, [image(2)])
        threading.Event().wait(0.05)
        engine.gate.release(10)
        assert first.result(10).item() == 1
        with pytest.raises(OverloadedError) as caught:
            late.result(10)
        assert caught.value.retry_after == 1
    assert engine.batches == [1]


def test_the_thread_ends_with_the_batcher_and_lets_go_of_the_engine() -> None:
    engine = Gated()
    alive = weakref.ref(engine)
    batcher = Batcher(engine, patience=60)
    assert "batcher" in [thread.name for thread in threading.enumerate()]
    del engine, batcher
    gc.collect()
    assert alive() is None
    assert "batcher" not in [thread.name for thread in threading.enumerate()]
