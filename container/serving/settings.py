"""Every environment variable that `serve` reads: its name, default, check and meaning on one line."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from container import processors
from container.hyperparameters import Choice, Integer

Check = Choice | Integer | None

EngineChoice = Literal["auto", "openvino", "torch"]
Precision = Literal["auto", "float32", "bfloat16"]

LEAST_THREADS = 4
"""Two answer pings however busy the model is; the others take the invocations."""


def _variable(name: str, default: str, check: Check, meaning: str) -> Any:
    return field(metadata={"name": name, "default": default, "check": check, "meaning": meaning})


# fmt: off
@dataclass(frozen=True, kw_only=True)
class Settings:
    """How this server runs, checked."""

    base_dir: Path = _variable("SAGEMAKER_BASE_DIR", "/opt/ml", None, "the model is read from the directory `model` in it")
    port: int = _variable("SAGEMAKER_BIND_TO_PORT", "8080", Integer(1, 65535), "port to listen on")
    max_payload_mb: int = _variable("SAGEMAKER_MAX_PAYLOAD_IN_MB", "6", Integer(0, 100), "largest request in MB; 0 means 100")
    threads: int = _variable("KENNEL_THREADS", "", Integer(LEAST_THREADS, 512), "requests held at once; by default 4 for each processor and at least 32")
    engine: EngineChoice = _variable("KENNEL_ENGINE", "auto", Choice(("auto", "openvino", "torch")), "what runs the network; auto takes torch where there is an NVIDIA device, else openvino")
    precision: Precision = _variable("KENNEL_PRECISION", "auto", Choice(("auto", "float32", "bfloat16")), "arithmetic of the network; auto takes 16 bits where the processor is fast at them")
# fmt: on

    @property
    def model_dir(self) -> Path:
        """Where SageMaker unpacks `model.tar.gz`."""
        return self.base_dir / "model"

    @property
    def runs_torch(self) -> bool:
        """Whether torch runs the network, and not OpenVINO."""
        return self.engine == "torch" or (self.engine == "auto" and processors.nvidia_devices() > 0)

    @property
    def max_payload(self) -> int:
        """Largest request body in bytes."""
        return (self.max_payload_mb or 100) * 1024 * 1024


@dataclass(frozen=True)
class Variable:
    """What is declared of one environment variable."""

    name: str
    default: str
    check: Check
    meaning: str


def variables() -> Iterator[Variable]:
    """Every environment variable, in order."""
    for entry in dataclasses.fields(Settings):
        yield Variable(**entry.metadata)


def parse(environment: Mapping[str, str]) -> Settings:
    """Check the environment; an empty variable counts as not set.

    Raises:
        UserError: a value outside its bounds; the message names the variable.
    """
    values: dict[str, Any] = {}
    for entry in dataclasses.fields(Settings):
        variable = Variable(**entry.metadata)
        given = environment.get(variable.name) or variable.default
        if entry.name == "base_dir":
            values[entry.name] = Path(given)
        elif given:
            values[entry.name] = cast(Choice | Integer, variable.check).parse(variable.name, given)
    values.setdefault("threads", max(32, 4 * processors.available()))
    return Settings(**values)
