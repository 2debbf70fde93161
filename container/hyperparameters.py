"""Every hyperparameter: its default, check, tuning range and meaning on one line. Stdlib only.

`container` parses a job's hyperparameters with it; `launcher` reads the tuning ranges from it.
"""

import dataclasses
import difflib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

from container.errors import UserError

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


@dataclass(frozen=True)
class TuningRange:
    """What a tuning job searches when the user names no range of their own."""

    low: float
    high: float
    scaling: Literal["Linear", "Logarithmic"] = "Linear"


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    values: tuple[str, ...]

    def parse(self, name: str, value: object) -> str:
        """The value, if it is one of the words. Raises UserError."""
        if value in self.values:
            return str(value)
        raise UserError(
            f"{name} must be one of {', '.join(self.values)}, got {value!r}{_hint(str(value), self.values)}"
        )

    def describe(self) -> str:
        """The allowed values, for `--help` and the README."""
        return ", ".join(self.values)


@dataclass(frozen=True)
class Flag:
    """True or false."""

    def parse(self, name: str, value: object) -> bool:
        """The value as a bool. Raises UserError."""
        text = str(value).lower()
        if text in ("true", "1", "yes", "on"):
            return True
        if text in ("false", "0", "no", "off"):
            return False
        raise UserError(f"{name} must be true or false, got {value!r}.")

    def describe(self) -> str:
        """The allowed values, for `--help` and the README."""
        return "true, false"


@dataclass(frozen=True)
class Real:
    """A finite number between two bounds; `above` excludes its bound, `least` and `most` include theirs."""

    above: float | None = None
    least: float | None = None
    most: float = math.inf

    def parse(self, name: str, value: object) -> float:
        """The value as a float. Raises UserError."""
        if isinstance(value, bool):
            raise UserError(f"{name} must be a number, got {value!r}.")
        try:
            number = float(str(value))
        except ValueError:
            raise UserError(f"{name} must be a number, got {value!r}.") from None
        if not math.isfinite(number):
            raise UserError(f"{name} must be a finite number, got {value!r}.")
        if self.above is not None and number <= self.above:
            raise UserError(f"{name} must be greater than {self.above:g}, got {value}.")
        if self.least is not None and number < self.least:
            raise UserError(f"{name} must be at least {self.least:g}, got {value}.")
        if number > self.most:
            raise UserError(f"{name} must be at most {self.most:g}, got {value}.")
        return number

    def describe(self) -> str:
        """The allowed values, for `--help` and the README."""
        low = f"> {self.above:g}" if self.above is not None else f"≥ {self.least:g}"
        return low if math.isinf(self.most) else f"{low}, ≤ {self.most:g}"


@dataclass(frozen=True)
class Integer:
    """A whole number from `least` to `most`."""

    least: int
    most: int

    def parse(self, name: str, value: object) -> int:
        """The value as an int; `"3.0"` counts as 3. Raises UserError."""
        number = Real(least=self.least, most=self.most).parse(name, value)
        if not number.is_integer():
            raise UserError(f"{name} must be a whole number, got {value}.")
        return int(number)

    def describe(self) -> str:
        """The allowed values, for `--help` and the README."""
        return f"{self.least} to {self.most}"


@dataclass(frozen=True)
class Text:
    """Words whose meaning is checked where they are used."""

    meaning: str

    def parse(self, name: str, value: object) -> str:
        """The value as text. Raises UserError."""
        if isinstance(value, str) and value.strip():
            return value.strip()
        raise UserError(f"{name} must be {self.meaning}, got {value!r}.")

    def describe(self) -> str:
        """The allowed values, for `--help` and the README."""
        return self.meaning


@dataclass(frozen=True)
class RealOrAuto:
    """A number as `Real` takes it, or `auto`, which is None in Python and found out by the job."""

    real: Real

    def parse(self, name: str, value: object) -> float | None:
        """The value as a float, or None for `auto`. Raises UserError."""
        if value is None or (isinstance(value, str) and value.lower() == "auto"):
            return None
        try:
            return self.real.parse(name, value)
        except UserError as error:
            raise UserError(str(error).replace("a number", "a number or auto")) from None

    def describe(self) -> str:
        """The allowed values, for `--help` and the README."""
        return f"{self.real.describe()}, or auto"


Check = Choice | Flag | Real | Integer | Text | RealOrAuto
Tuning = TuningRange | tuple[int, ...] | None


def _declare(default: object, check: Check, meaning: str, *, tune: Tuning = None) -> Any:
    return field(default=default, metadata={"check": check, "meaning": meaning, "tune": tune})


def _logarithmic(low: float, high: float) -> TuningRange:
    return TuningRange(low, high, "Logarithmic")


# fmt: off
@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """One job's hyperparameters, checked. Names are written with hyphens outside Python."""

    arch: str = _declare("resnet18", Choice(RESNETS), "torchvision architecture to fine-tune")
    weights: str = _declare("imagenet", Choice(("imagenet", "none")), "start from ImageNet weights, or from scratch")
    trainable: str = _declare("head", Choice(("head", "layer4", "all")), "train the new head on a frozen backbone, the last stage too, or all layers")
    epochs: int = _declare(5, Integer(1, 10_000), "passes over the training images", tune=TuningRange(2, 10))
    lr: float | None = _declare(1e-3, RealOrAuto(Real(above=0, most=1000)), "peak learning rate, reached after warm-up; auto looks for one before the first epoch", tune=_logarithmic(1e-4, 1e-1))
    eps: float = _declare(1e-8, Real(above=0, most=1), "AdamW's epsilon", tune=_logarithmic(1e-9, 1e-8))
    batch_size: int = _declare(64, Integer(1, 65_536), "images per training step", tune=(32, 64, 128))
    test_batch_size: int = _declare(128, Integer(1, 65_536), "images per evaluation step")
    optimizer: str = _declare("adamw", Choice(("adamw", "sgd")), "optimizer; sgd uses Nesterov momentum 0.9")
    weight_decay: float = _declare(1e-4, Real(least=0, most=10), "decay of all weights but biases and norms")
    label_smoothing: float = _declare(0.0, Real(least=0, most=0.9), "share of each label's weight that is spread over all classes")
    class_weights: str = _declare("none", Choice(("none", "balanced")), "balanced gives the images of rare classes more weight in the loss")
    schedule: str = _declare("cosine", Choice(("cosine", "constant")), "course of the learning rate after warm-up: half a cosine down to zero, or level")
    warm_up: float = _declare(0.05, Real(least=0, most=0.5), "share of all steps in which the learning rate rises to its peak")
    layer_decay: float = _declare(1.0, Real(above=0, most=1), "each stage of the network learns at this share of the rate of the stage after it; 1 is the same for all")
    mixup: float = _declare(0.0, Real(least=0, most=10), "train on mixtures of two images, in shares drawn from Beta(mixup, mixup); 0 does not")
    ema: float = _declare(0.0, Real(least=0, most=0.99999), "evaluate and save a moving average of the weights that keeps this share of itself at each step, such as 0.999; 0 does not")
    patience: int = _declare(0, Integer(0, 10_000), "stop when the validation loss has not improved for so many epochs; 0 never does")
    seed: int = _declare(0, Integer(0, 2**31 - 1), "the same seed gives the same numbers on a CPU")
    image_size: int = _declare(224, Integer(32, 1024), "side of the square that the network sees, in pixels")
    progressive: bool = _declare(False, Flag(), "with new views in every epoch, begin with smaller ones and grow them to image-size by the last epoch: faster")
    crop_scale: float = _declare(0.35, Real(above=0, most=1), "smallest share of a training image that a random crop keeps; 1 turns crops off")
    views: int = _declare(2, Integer(0, 64), "with trainable=head or layer4, views of a training image that the frozen layers see once: the image, its mirror image (left out without flip), random crops; 0 computes new ones in every epoch")
    flip: bool = _declare(True, Flag(), "mirror training images at random; turn off where left and right differ, as in digits")
    validation_split: float = _declare(0.15, Real(above=0, most=0.5), "share split off for validation where no validation images are given")
    test_split: float = _declare(0.15, Real(least=0, most=0.5), "share split off for the test where the data is one folder of classes")
    rejected_limit: float = _declare(0.05, Real(least=0, most=1), "the job fails when more than this share of the images cannot be used")
    checkpoint_seconds: float = _declare(300.0, Real(least=0, most=86_400), "write a checkpoint at least so often, in the middle of an epoch too; 0 only after each epoch")
    precision: str = _declare("auto", Choice(("auto", "float32", "bfloat16")), "arithmetic of the network; auto takes bfloat16 where the processor has it")
    int8_loss: float = _declare(0.5, Real(least=0, most=100), "percentage points of validation accuracy that the int8 form may lose, with which a CPU then serves; 0 makes none")
    debug: str = _declare("off", Choice(("off", "losses", "standard", "full")), "smdebug collections to save when SageMaker sends no debugger configuration")
    rules: str = _declare("default", Text("default, all, off, or names such as Overfit:patience=2,DeadRelu"), "rules that look at the saved tensors while training runs")
    on_rule: str = _declare("warn", Choice(("warn", "stop")), "what a rule that fires does; stop ends training and saves the model")
    profile: bool = _declare(True, Flag(), "sample processors, memory, disk, network and GPUs twice a second")
    profile_steps: str = _declare("off", Text("off, or a first and last step such as 10-14"), "training steps whose every operator is timed")
    tensorboard: bool = _declare(False, Flag(), "write event files for TensorBoard to output/tensorboard")
# fmt: on


@dataclass(frozen=True)
class Declaration:
    """What is declared of one hyperparameter."""

    name: str
    default: object
    check: Check
    meaning: str
    tune: Tuning


def declarations() -> Iterator[Declaration]:
    """Every hyperparameter in order, named as the user writes it."""
    for entry in dataclasses.fields(Hyperparameters):
        yield Declaration(entry.name.replace("_", "-"), entry.default, **entry.metadata)


def parse(*sources: Mapping[str, object]) -> Hyperparameters:
    """Check what SageMaker or the user gave, where every value may be a string.

    Later sources win over earlier ones. Names may use hyphens or underscores. SageMaker's own
    entries (`sagemaker_*`, `_tuning_objective_metric`) are ignored.

    Raises:
        UserError: an unknown name, a name given twice, or a value outside its bounds.
    """
    declared = {declaration.name: declaration for declaration in declarations()}
    values: dict[str, Any] = {}
    for source in sources:
        named: dict[str, object] = {}
        for key, value in source.items():
            if key.startswith(("sagemaker_", "_")):
                continue
            name = key.replace("_", "-")
            if name not in declared:
                refuse_unknown(key, f"There is no hyperparameter {key!r}")
            if name in named:
                raise UserError(f"{name} is given twice, with a hyphen and with an underscore.")
            named[name] = value
        values |= named
    checked: dict[str, Any] = {
        name.replace("-", "_"): declared[name].check.parse(name, _unquoted(value))
        for name, value in values.items()
    }
    return Hyperparameters(**checked)


def refuse_unknown(name: str, sentence: str) -> NoReturn:
    """Raise UserError with the sentence and the hyperparameter that was most likely meant."""
    known = tuple(declaration.name for declaration in declarations())
    raise UserError(sentence + _hint(name.replace("_", "-"), known))


def as_strings(hyperparameters: Hyperparameters) -> dict[str, str]:
    """The flat map of strings that SageMaker's API and `hyperparameters.json` hold."""
    return {
        name.replace("_", "-"): "auto" if value is None else str(value)
        for name, value in dataclasses.asdict(hyperparameters).items()
    }


def _unquoted(value: object) -> object:
    """SageMaker's SDK sends a string as JSON, with quotes around it."""
    if isinstance(value, str) and value.startswith('"'):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value
    return value


_SYNONYMS = {
    "architecture": "arch",
    "learning-rate": "lr",
    "model": "arch",
    "num-epochs": "epochs",
    "pretrained": "weights",
    "random-seed": "seed",
}


def _hint(given: str, known: tuple[str, ...]) -> str:
    """The end of a sentence that names what the user most likely meant."""
    nearest = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    likely = _SYNONYMS.get(given, nearest[0] if nearest else None)
    return f"; did you mean {likely!r}?" if likely in known else f"; known are {', '.join(known)}."
