"""Every setting of the launcher: its default, check and meaning on one line.

Flags win over the environment (`KENNEL_…`), which wins over `kennel.toml`, which wins over what
was chosen in this directory before, which wins over the defaults.
"""

import dataclasses
import difflib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from container.errors import UserError
from container.hyperparameters import Choice, Integer, parse
from launcher.names import check_project

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CONFIGURATION = "kennel.toml"
BACKENDS = ("process", "docker", "sagemaker")

Check = Choice | Integer | None


def _setting(default: object, check: Check, meaning: str, *, variable: str = "") -> Any:
    return field(
        default=default, metadata={"check": check, "meaning": meaning, "variable": variable}
    )


# fmt: off
@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where and how the launcher works, checked."""

    on: str = _setting("process", Choice(BACKENDS), "where jobs run: as processes here, in Docker, or on Amazon SageMaker")
    project: str = _setting("kennel", None, "first word of every name that is made")
    data: str | None = _setting(None, None, "folder of images per class, an archive of one, or its s3:// address")
    image: str | None = _setting(None, None, "the image's name or address in ECR")
    role: str | None = _setting(None, None, "ARN of the role that SageMaker works as")
    bucket: str | None = _setting(None, None, "S3 bucket for data and results")
    prefix: str = _setting("kennel", None, "where in the bucket")
    region: str | None = _setting(None, None, "AWS region", variable="AWS_REGION")
    aws_profile: str | None = _setting(None, None, "AWS profile", variable="AWS_PROFILE")
    instance_type: str = _setting("ml.g4dn.xlarge", None, "machine for training on SageMaker")
    endpoint_instance_type: str = _setting("ml.m5.large", None, "machine for serving on SageMaker")
    volume_gb: int = _setting(50, Integer(1, 16_384), "disk of a training machine on SageMaker")
    input_mode: str = _setting("File", Choice(("File", "FastFile")), "on SageMaker, whether images are copied to that disk first, or read from S3 as they are needed")
    max_run: int = _setting(14_400, Integer(60, 2_419_200), "longest time in seconds that a training job may run")
    jobs_dir: str = _setting(".kennel/jobs", None, "where jobs on this machine keep their files")
# fmt: on

    hyperparameters: Mapping[str, object] = field(default_factory=dict)
    """The table of that name in kennel.toml."""


@dataclass(frozen=True)
class Declaration:
    """What is declared of one setting."""

    name: str
    default: object
    check: Check
    meaning: str
    variables: tuple[str, ...]

    @property
    def flag(self) -> str:
        """As the user writes it on the command line and in kennel.toml."""
        return self.name.replace("_", "-")


def declarations() -> Iterator[Declaration]:
    """Every setting, in order."""
    for entry in dataclasses.fields(Settings):
        if not entry.metadata:
            continue
        own = f"KENNEL_{entry.name.upper()}"
        other = entry.metadata["variable"]
        yield Declaration(
            name=entry.name,
            default=entry.default,
            check=entry.metadata["check"],
            meaning=entry.metadata["meaning"],
            variables=(own, other) if other else (own,),
        )


def resolve(
    flags: Mapping[str, object],
    environment: Mapping[str, str],
    file: Mapping[str, Any],
    remembered: Mapping[str, object],
) -> Settings:
    """Merge and check all sources once.

    Raises:
        UserError: a value outside its bounds; the message says where it was given.
    """
    values: dict[str, Any] = {}
    for declared in declarations():
        for source, value in _given(declared, flags, environment, file, remembered):
            if value is None or value == "":
                continue
            where = f"{source} "
            values[declared.name] = (
                declared.check.parse(where + declared.flag, value) if declared.check else str(value)
            )
            break
    settings = Settings(**values, hyperparameters=dict(file.get("hyperparameters", {})))
    check_project(settings.project)
    return settings


def _given(
    declared: Declaration,
    flags: Mapping[str, object],
    environment: Mapping[str, str],
    file: Mapping[str, Any],
    remembered: Mapping[str, object],
) -> Iterator[tuple[str, object]]:
    yield "The option", flags.get(declared.name)
    for variable in declared.variables:
        yield f"{variable}, the environment's", environment.get(variable)
    yield f"{CONFIGURATION}'s", file.get(declared.name)
    yield "The remembered", remembered.get(declared.name)


def read_file(directory: Path) -> dict[str, Any]:
    """`kennel.toml` of a directory, with names as Python writes them; nothing where there is none.

    Raises:
        UserError: it is no TOML, or has a name that is not a setting.
    """
    path = directory / CONFIGURATION
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from None
    known = [declared.name for declared in declarations()]
    named: dict[str, Any] = {}
    for key, value in content.items():
        name = key.replace("-", "_")
        if name == "hyperparameters" and isinstance(value, dict):
            parse(value)
        elif name not in known:
            raise UserError(f"{path} sets {key!r}, which is no setting{nearest(key, known)}")
        named[name] = value
    return named


def nearest(given: str, known: list[str]) -> str:
    """The end of a sentence that names what the user most likely meant."""
    found = difflib.get_close_matches(given.replace("-", "_"), known, n=1, cutoff=0.5)
    if found:
        return f"; did you mean {found[0].replace('_', '-')!r}?"
    return f"; known are {', '.join(name.replace('_', '-') for name in known)}."
