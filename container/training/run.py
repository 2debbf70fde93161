"""One training job from its data to its artifact, read from top to bottom."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torchvision.models import ResNet

from container import metrics, model, pretrained, torch_resnet
from container.debugging.observer import Observer, observing
from container.errors import UserError
from container.hyperparameters import Hyperparameters, as_strings
from container.images import Preprocessing
from container.job import Job, JobEnvironment
from container.progress import say
from container.stopping import Stopped, StopSignal
from container.training import final_test, host_shards
from container.training.checkpoint import Checkpoints
from container.training.decoded import SplitImages, check_rejected
from container.training.history import History
from container.training.loop import Training
from container.training.optimization import build_criterion
from container.training.passes import Passes
from container.training.preparation import check_batches, prepare
from container.training.processor import Processor
from container.training.quantization import Int8Form, quantize
from container.training.source import Source
from container.training.world import World, joined


def train(
    job: Job, environment: JobEnvironment, options: Hyperparameters, stop: StopSignal
) -> None:
    """Train, evaluate and write the artifact, with an eye on all of it.

    Raises:
        UserError: something that the user can put right.
        Stopped: the job was asked to stop; what was learned so far is saved.
    """
    with (
        tempfile.TemporaryDirectory(prefix="kennel-") as scratch,
        joined(environment.hosts, environment.current_host) as world,
        observing(job, options, first=world.is_main) as observer,
    ):
        _train(job, options, stop, observer, Path(scratch), environment, world)


def _train(
    job: Job,
    options: Hyperparameters,
    stop: StopSignal,
    observer: Observer,
    scratch: Path,
    environment: JobEnvironment,
    world: World,
) -> None:
    torch.manual_seed(options.seed)
    processor = Processor.choose(options.precision)
    preprocessing = Preprocessing.for_image_size(options.image_size)

    images = host_shards.find(environment, options, scratch, world, stop)
    digest = images.digest()
    with world.together():
        network = _network(options, len(images.classes), environment)
    start = model.backbone_digest(network)
    network.to(processor.device, memory_format=torch.channels_last)
    say(f"{options.arch} on {processor}")
    prepared = prepare(network, images, options, preprocessing, processor.precision, stop, world)
    if prepared is None:
        return
    world = prepared.world.in_step()
    data_dir = job.output_data_dir if world.is_main else scratch
    splits, sources = prepared.splits, prepared.sources
    others = host_shards.all_rejected(splits, images, world)
    with world.together():
        rejected = check_rejected(
            splits, others, options.rejected_limit, data_dir / "rejected_images.csv"
        )
    counts = {name: len(source) for name, source in sources.items()}
    check_batches(counts["train"], options)
    say(
        f"{len(images.classes)} classes; images: "
        + ", ".join(f"{count} {name}" for name, count in counts.items())
        + (f"; {rejected} rejected" if rejected else "")
    )

    observer.describe(classes=images.classes, splits=splits, digest=digest, device=str(processor))
    history = History(data_dir / "metrics.jsonl")

    def save(int8: Int8Form | None = None) -> None:
        if not world.is_main:
            return
        prepared.write_to(network)
        model.save(
            network,
            job.model_dir,
            architecture=options.arch,
            classes=images.classes,
            preprocessing=preprocessing,
            hyperparameters=as_strings(options),
            metrics=history.latest,
            data={"images": counts, "rejected": rejected, "digest": digest},
            int8=int8,
        )
        say(f"Saved the model to {job.model_dir}.")

    checkpoints = Checkpoints(
        job.checkpoint_dir,
        # The file in the pretrained channel may be another one next time.
        json.dumps([as_strings(options), digest, start]),
        seconds=options.checkpoint_seconds,
        world=world,
    )
    labels = host_shards.all_labels(splits["train"].labels, images, world)
    criterion = build_criterion(options, labels, len(images.classes))
    passes = Passes(
        prepared.trained, options, criterion, processor, observer, stop, len(images.classes), world
    )
    try:
        tested = len(sources["test"]) > 0
        training = Training(passes, options, observer)
        training.fit(sources["train"], sources["validation"], checkpoints, history, tested=tested)
        if tested:
            _test(passes, sources["test"], images.classes, history)
    except Stopped:
        save()
        raise
    finally:
        observer.finish()
    save()  # first of all: what follows takes a while, and SageMaker may stop the job meanwhile
    if world.is_main and (int8 := _int8_form(network, options, preprocessing, splits)):
        save(int8)
    checkpoints.remove()


def _test(passes: Passes, images: Source, classes: Sequence[str], history: History) -> None:
    """Measure the trained network on images that nothing was decided by. Raises Stopped."""
    score = passes.evaluate(images, "test", "Test")
    values = final_test.measure(score, classes)
    say(metrics.line(values))
    final_test.summarise(score, classes)
    history.add(values)
    passes.observer.measured(values)


def _int8_form(
    network: ResNet,
    options: Hyperparameters,
    preprocessing: Preprocessing,
    splits: Mapping[str, SplitImages],
) -> Int8Form | None:
    """The int8 form; none where it cannot be made, since the model is saved without it."""
    try:
        return quantize(
            network,
            options.arch,
            preprocessing,
            splits["train"],
            splits["validation"],
            options.int8_loss,
        )
    except Exception as error:  # whatever ails NNCF or OpenVINO
        say(f"No int8 form: it cannot be made ({type(error).__name__}: {error}).")
        return None


def _network(options: Hyperparameters, classes: int, environment: JobEnvironment) -> ResNet:
    network = torch_resnet.build(options.arch, classes, from_scratch=options.weights == "none")
    if options.weights == "imagenet":
        weights, source = pretrained.find(options.arch, environment.channels.get("pretrained"))
        try:
            model.load_backbone(network, weights)
        except ValueError as error:
            raise UserError(
                f"The pretrained weights from {source} do not fit {options.arch}: {error}."
            ) from None
        say(f"Pretrained weights: {source}.")
    elif options.trainable != "all":
        say(
            f"weights=none with trainable={options.trainable}: the frozen layers stay random. "
            "Set trainable=all to train from scratch."
        )
    model.freeze(network, options.trainable)
    return network
