"""Every environment variable that `serve` reads: its name, default, check and meaning on one line."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from container import processors
from container.errors import UserError
from container.hyperparameters import Choice, Flag, Integer
from container.image_variant import has_torch, require_torch

Check = Choice | Flag | Integer | None
"""None stands for a directory."""

EngineChoice = Literal["auto", "openvino", "torch"]
Precision = Literal["auto", "float32", "bfloat16", "int8"]
Gradients = Literal["auto", "on", "off"]

THREADS_FOR_PINGS = 2
"""Threads that invocations leave free: a ping must be answered within 2 seconds at any load."""
LEAST_THREADS = 2 * THREADS_FOR_PINGS
THREADS_FOR_BODIES = 32
"""Threads beside KENNEL_THREADS, so that clients that send slowly take nobody's place."""


def _variable(name: str, default: str, check: Check, meaning: str) -> Any:
    return field(metadata={"name": name, "default": default, "check": check, "meaning": meaning})


# fmt: off
@dataclass(frozen=True, kw_only=True)
class Settings:
    """How this server runs, checked."""

    base_dir: Path = _variable("SAGEMAKER_BASE_DIR", "/opt/ml", None, "the model is read from the directory `model` in it")
    port: int = _variable("SAGEMAKER_BIND_TO_PORT", "8080", Integer(1, 65535), "port to listen on")
    max_payload_mb: int = _variable("SAGEMAKER_MAX_PAYLOAD_IN_MB", "6", Integer(0, 100), "largest request in MB; 0 means 100")
    threads: int = _variable("KENNEL_THREADS", "", Integer(LEAST_THREADS, 512), "requests worked on at once, with two for pings; by default 4 for each processor and at least 32")
    processes: int = _variable("KENNEL_PROCESSES", "1", Integer(1, 64), "processes that share the processors and the clients, each with a model of its own: many clients are answered faster, one alone slower, for more memory; with torch there is one for each GPU in any case")
    patience: int = _variable("KENNEL_PATIENCE", "20", Integer(1, 3600), "seconds that an image waits for its turn at most; who would wait longer is answered 503 at once")
    seconds: int = _variable("KENNEL_REQUEST_SECONDS", "", Integer(1, 3600), "time for all images of one request; by default 60, and 600 in batch transform")
    script: bool = _variable("KENNEL_SCRIPT", "false", Flag(), "run the model's own code/inference.py, with all the rights of this server")
    multi_model: bool = _variable("SAGEMAKER_MULTI_MODEL", "false", Flag(), "start without a model and answer the /models routes")
    models_root: Path = _variable("SAGEMAKER_MODELS_ROOT", "", None, "models of a multi-model endpoint are loaded from inside it; by default `models` in the base directory")
    batch: bool = _variable("SAGEMAKER_BATCH", "false", Flag(), "whether this is a batch transform job; SageMaker sets it")
    concurrent_transforms: int = _variable("SAGEMAKER_MAX_CONCURRENT_TRANSFORMS", "", Integer(0, 100), "requests that batch transform sends at once; by default as many as suit the processors")
    batch_strategy: str = _variable("SAGEMAKER_BATCH_STRATEGY", "SINGLE_RECORD", Choice(("SINGLE_RECORD", "MULTI_RECORD")), "what is told to batch transform; both are answered record by record")
    engine: EngineChoice = _variable("KENNEL_ENGINE", "auto", Choice(("auto", "openvino", "torch")), "what runs the network; auto takes torch where there is an NVIDIA device, else openvino")
    precision: Precision = _variable("KENNEL_PRECISION", "auto", Choice(("auto", "float32", "bfloat16", "int8")), "arithmetic of the network; auto takes int8 where the model has it, else 16 bits where the processor is fast at them")
    gradients: Gradients = _variable("KENNEL_GRADIENTS", "auto", Choice(("auto", "on", "off")), "explanations by integrated gradients, which load torch when they are first asked for; auto: where torch runs the network anyway")
    page: bool = _variable("KENNEL_PAGE", "true", Flag(), "a page at / for trying the model in a browser")
# fmt: on

    @property
    def model_dir(self) -> Path:
        """Where SageMaker unpacks `model.tar.gz`."""
        return self.base_dir / "model"

    @property
    def workers(self) -> int:
        """Processes that answer: as many as wanted, and with torch one for each GPU."""
        if self.multi_model or not self.runs_torch:
            return self.processes  # of many models only one process can know them all
        return max(1, processors.nvidia_devices())

    @property
    def processors(self) -> int:
        """How many one of the processes that answer computes on."""
        return max(1, processors.available() // self.workers)

    @property
    def runs_torch(self) -> bool:
        """Whether torch runs the network, and not OpenVINO."""
        if self.engine == "auto":
            return processors.nvidia_devices() > 0 and has_torch()
        return self.engine == "torch"

    @property
    def has_gradients(self) -> bool:
        """Whether torch may be loaded to compute gradients."""
        return self.gradients == "on" or (self.gradients == "auto" and self.runs_torch)

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
        UserError: a value outside its bounds, one that needs torch where there is none, or two
            that do not go together; the message names the variable.
    """
    values: dict[str, Any] = {}
    for entry in dataclasses.fields(Settings):
        variable = Variable(**entry.metadata)
        given = environment.get(variable.name) or variable.default
        if variable.check is None:
            values[entry.name] = Path(given) if given else values["base_dir"] / "models"
        elif given:
            values[entry.name] = variable.check.parse(variable.name, given)
    values.setdefault("seconds", 600 if values["batch"] else 60)
    values.setdefault("concurrent_transforms", 0)
    if values["engine"] == "torch":
        require_torch("KENNEL_ENGINE=torch")
    if values["gradients"] == "on":
        require_torch("KENNEL_GRADIENTS=on")
    if values["multi_model"] and values["processes"] > 1:
        raise UserError(
            f"KENNEL_PROCESSES={values['processes']} does not go with SAGEMAKER_MULTI_MODEL: only "
            "one process can know which models are loaded. Leave one of them out."
        )
    least = values["concurrent_transforms"] + THREADS_FOR_PINGS
    values.setdefault("threads", max(32, 4 * processors.available(), least))
    if values["threads"] < least:
        raise UserError(
            f"KENNEL_THREADS={values['threads']} is too few for SAGEMAKER_MAX_CONCURRENT_TRANSFORMS="
            f"{values['concurrent_transforms']}; set it to {least} or more, or leave it out."
        )
    return Settings(**values)
