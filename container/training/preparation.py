"""Bring a job's images into the form that its network is trained on."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn
from torchvision.models import ResNet

from container import model
from container.errors import UserError
from container.hyperparameters import Hyperparameters
from container.images import Preprocessing
from container.progress import say
from container.stopping import StopSignal
from container.training import host_shards
from container.training.augmentation import SIDE_STEP, Augmentation, progressive_side
from container.training.backbone import Backbone, Cut
from container.training.dataset import Dataset
from container.training.decoded import SplitImages, decode_split
from container.training.feature_parts import compute_together
from container.training.feature_store import FeatureStore
from container.training.frozen import MIRRORED, PLAIN, FeatureExtractor, view_names
from container.training.head import FrozenSource, Head, LastStage, Moments
from container.training.pixels import PixelSource
from container.training.source import Source, steps_per_epoch
from container.training.world import World


@dataclass(frozen=True)
class Prepared:
    """Images by split, as batches by split, and the part of the network that takes those."""

    splits: Mapping[str, SplitImages]
    sources: Mapping[str, Source]
    trained: nn.Module
    world: World
    """The processes that train it."""

    def write_to(self, network: ResNet) -> None:
        """Give the network what was trained, where that is not a part of it already."""
        if isinstance(self.trained, Head):
            self.trained.write_to(network)


def prepare(
    network: ResNet,
    images: Dataset,
    options: Hyperparameters,
    preprocessing: Preprocessing,
    precision: str,
    stop: StopSignal,
    world: World,
) -> Prepared | None:
    """Let frozen layers see cached views once, where there are both; else decode all images.

    Of many processes each computes a part of the features, and the main one alone trains the head
    on all: that takes it less time than to talk. For the others nothing is left to do.

    Frozen layers compute in `precision`, float32 or bfloat16, as trained ones do.

    Raises:
        UserError: the disk is full.
        Stopped: the job was asked to stop.
    """
    if options.trainable != "all" and options.views:
        return _features(network, images, options, preprocessing, precision, stop, world)
    return _pixels(network, images, options, preprocessing, stop, world)


def check_batches(images: int, options: Hyperparameters) -> None:
    """Raise UserError where a batch has one image, and the last layers one value of it.

    Batch normalisation that is trained has no variance then.
    """
    steps = max(1, steps_per_epoch(images, options.batch_size))
    grows = options.progressive and (options.trainable == "all" or not options.views)
    side = progressive_side(options.image_size, 0, options.epochs if grows else 1)
    if options.trainable != "head" and images // steps == 1 and side <= SIDE_STEP:
        raise UserError(
            f"batch-size={options.batch_size} makes a batch of one of the {images} training "
            f"images, of which the last layers see a single point at {side} pixels: too little for "
            "batch normalisation. Set batch-size to 3 or more, or a larger image-size."
        )


def _pixels(
    network: ResNet,
    images: Dataset,
    options: Hyperparameters,
    preprocessing: Preprocessing,
    stop: StopSignal,
    world: World,
) -> Prepared:
    """Decode every image, for a network that sees new views in every epoch."""
    with world.together():
        splits = {
            name: decode_split(
                split,
                preprocessing.resize_size,
                f"Decoding {name} images",
                stop,
                # As serving sees them; of training images other squares are wanted too.
                crop=None if name == "train" else preprocessing.image_size,
            )
            for name, split in images.splits().items()
        }
    shares = host_shards.shares(splits, images, options.batch_size, world)
    augmentation = _augmentation(options)
    device = next(network.parameters()).device
    growing_over = options.epochs if options.progressive else None
    sources = {
        name: PixelSource(split, augmentation, preprocessing, shares[name], device, growing_over)
        for name, split in splits.items()
    }
    return Prepared(splits, sources, network, world)


def _features(
    network: ResNet,
    images: Dataset,
    options: Hyperparameters,
    preprocessing: Preprocessing,
    precision: str,
    stop: StopSignal,
    world: World,
) -> Prepared | None:
    """Run the frozen layers on every image, or find in the cache what they made of it."""
    cut = Cut.below(options.trainable)
    backbone = Backbone(network, options.arch, preprocessing, precision, cut)
    views = _views(options)
    say(f"Frozen layers by {backbone.name}, {len(views)} views of each training image")
    _say_what_has_no_effect(options, views)
    store = FeatureStore.of(
        {
            "architecture": options.arch,
            "output": cut.name,
            "weights": model.backbone_digest(network),
            "preprocessing": dataclasses.asdict(preprocessing),
            "arithmetic": backbone.name,
        }
    )
    extractor = FeatureExtractor(backbone, store, preprocessing, _augmentation(options), stop)
    wanted = {
        name: (split, views if name == "train" else (PLAIN,))
        for name, split in images.splits().items()
    }
    if images.parted:
        with world.together():
            splits = extractor.extract(wanted)
    else:
        splits = compute_together(extractor, wanted, world)
    say(f"{cut.name.capitalize()}: {extractor.computed} computed, the rest in {store.directory}")
    if options.trainable == "head" and not images.parted:
        alone = world.leave()
        if not world.is_main:
            return None
        world = alone
    shares = host_shards.shares(splits, images, options.batch_size, world)
    sources = {name: FrozenSource(split, shares[name]) for name, split in splits.items()}
    if options.trainable == "layer4":
        return Prepared(splits, sources, LastStage(network), world)
    moments = Moments.of(splits["train"], network.fc.in_features, world)
    return Prepared(splits, sources, Head(network, moments), world)


def _views(options: Hyperparameters) -> tuple[str, ...]:
    """The views of a training image; without the mirror image one fewer, not another crop."""
    count = options.views if options.flip else max(1, options.views - 1)
    return view_names(count, flip=options.flip, crop_scale=options.crop_scale)


def _say_what_has_no_effect(options: Hyperparameters, views: Sequence[str]) -> None:
    """Name the settings of random crops that were given for views that are none."""
    usual = Hyperparameters()
    if options.crop_scale != usual.crop_scale and set(views) <= {PLAIN, MIRRORED}:
        say(
            "crop-scale has no effect: the views are the image itself and its mirror image. "
            "More than two views are random crops."
        )
    if options.progressive:
        say("progressive has no effect: it needs new views in every epoch, as views=0 makes them.")


def _augmentation(options: Hyperparameters) -> Augmentation:
    return Augmentation(
        image_size=options.image_size, crop_scale=options.crop_scale, flip=options.flip
    )
