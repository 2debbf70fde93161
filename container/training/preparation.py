"""Bring a job's images into the form that its network is trained on."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn
from torchvision.models import ResNet

from container import model
from container.hyperparameters import Hyperparameters
from container.images import Preprocessing
from container.progress import say
from container.training.augmentation import Augmentation
from container.training.backbone import Backbone
from container.training.dataset import Dataset
from container.training.decoded import SplitImages, decode_split
from container.training.feature_store import FeatureStore
from container.training.frozen import PLAIN, FeatureExtractor, view_names
from container.training.head import FrozenSource, Head
from container.training.pixels import PixelSource
from container.training.source import Source
from container.training.stopping import StopSignal


@dataclass(frozen=True)
class Prepared:
    """Images by split, as batches by split, and the part of the network that takes those."""

    splits: Mapping[str, SplitImages]
    sources: Mapping[str, Source]
    trained: nn.Module


def prepare(
    network: ResNet,
    images: Dataset,
    options: Hyperparameters,
    preprocessing: Preprocessing,
    stop: StopSignal,
) -> Prepared:
    """Compute features where only the head is trained on cached views, else decode all images.

    Raises:
        UserError: the disk is full.
        Stopped: the job was asked to stop.
    """
    if options.trainable == "head" and options.views:
        return _features(network, images, options, preprocessing, stop)
    return _pixels(network, images, options, preprocessing, stop)


def _pixels(
    network: ResNet,
    images: Dataset,
    options: Hyperparameters,
    preprocessing: Preprocessing,
    stop: StopSignal,
) -> Prepared:
    """Decode every image, for a network of which more than the head is trained."""
    splits = {
        name: decode_split(split, preprocessing.resize_size, f"Decoding {name} images", stop)
        for name, split in images.splits().items()
    }
    augmentation = _augmentation(options)
    sources = {
        name: PixelSource(split, augmentation, preprocessing) for name, split in splits.items()
    }
    return Prepared(splits, sources, network)


def _features(
    network: ResNet,
    images: Dataset,
    options: Hyperparameters,
    preprocessing: Preprocessing,
    stop: StopSignal,
) -> Prepared:
    """Compute the features of every image, or find them in the cache, for training the head."""
    backbone = Backbone(network, options.arch, preprocessing, options.precision)
    say(f"Features by {backbone.name}, {options.views} views of each training image")
    store = FeatureStore.of(
        {
            "architecture": options.arch,
            "weights": model.backbone_digest(network),
            "preprocessing": dataclasses.asdict(preprocessing),
            "arithmetic": backbone.name,
        }
    )
    views = view_names(options.views, flip=options.flip, crop_scale=options.crop_scale)
    extractor = FeatureExtractor(backbone, store, preprocessing, _augmentation(options), stop)
    splits = extractor.extract(
        {
            name: (split, views if name == "train" else (PLAIN,))
            for name, split in images.splits().items()
        }
    )
    say(f"Features: {extractor.computed} computed, the rest found in {store.directory}")
    device = next(network.parameters()).device
    sources = {name: FrozenSource(split, device) for name, split in splits.items()}
    return Prepared(splits, sources, Head(network))


def _augmentation(options: Hyperparameters) -> Augmentation:
    return Augmentation(
        image_size=options.image_size, crop_scale=options.crop_scale, flip=options.flip
    )
