"""All layers on a GPU: Kennel's whole loop against its own step on images that never move.

Not yet run where there is a GPU; elsewhere it measures nothing and says so.
"""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from benchmarks.photographs import write_photographs
from benchmarks.table import Row, middle
from container import torch_resnet
from container.images import Preprocessing
from container.stopping import StopSignal
from container.training.augmentation import Augmentation
from container.training.dataset import Split
from container.training.decoded import decode_split
from container.training.pixels import PixelSource
from container.training.source import Batch, Share

BATCH_SIZE = 256
CLASSES = 8


def run(scratch: Path, *, quick: bool) -> list[Row]:
    """Images per second of ResNet-50 in bfloat16, with data and with data that lies ready."""
    if not torch.cuda.is_available():
        return [Row("resnet50, all layers on a GPU", "not run: this machine has no GPU")]
    images, rounds = (1024, 1) if quick else (8192, 3)
    photographs = write_photographs(scratch / "photographs", classes=CLASSES, images=images)
    paths = tuple(sorted(photographs.rglob("*.jpg")))
    split = Split(paths, tuple(int(path.parent.name) for path in paths))
    preprocessing = Preprocessing()
    decoded = decode_split(split, preprocessing.resize_size, "Decoding", StopSignal())
    device = torch.device("cuda")
    augmentation = Augmentation(preprocessing.image_size, crop_scale=0.35, flip=True)
    source = PixelSource(decoded, augmentation, preprocessing, Share(), device)
    network = torch_resnet.build("resnet50", CLASSES)
    network.to(device, memory_format=torch.channels_last)
    criterion = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, fused=True)

    def rate(batches: Iterable[Batch]) -> float:
        """Images per second over these batches, the last of them done."""
        seen, started = 0, time.perf_counter()
        for views, labels in batches:
            with torch.autocast("cuda", torch.bfloat16):
                logits = network(source.inputs(views))
            loss = criterion(logits.float(), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            seen += len(labels)
        torch.cuda.synchronize()
        return seen / (time.perf_counter() - started)

    def epoch(number: int) -> Iterator[Batch]:
        return source.training_batches(batch_size=BATCH_SIZE, seed=0, epoch=number, first_step=0)

    ready = [next(epoch(0))] * (images // BATCH_SIZE)
    rate(epoch(0))  # the first epoch also chooses the convolutions' algorithms
    pairs = [(rate(epoch(number)), rate(ready)) for number in range(1, rounds + 1)]
    fed = middle([with_data for with_data, _ in pairs])
    alone = middle([without for _, without in pairs])
    share = middle([with_data / without for with_data, without in pairs])
    return [
        Row("resnet50: the step alone, on images that lie on the GPU", f"{alone:.0f} images/s"),
        Row("resnet50: Kennel, from decoded images", f"{fed:.0f} images/s, {share:.0%}"),
    ]
