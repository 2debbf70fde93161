"""The image: built and pushed by `build_and_push.sh`, whose last line is its address."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from container.errors import UserError

SCRIPT = Path(__file__).resolve().parents[1] / "build_and_push.sh"
WIN_OVER_PROFILES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_DEFAULT_PROFILE",
)
"""What the aws command heeds before AWS_PROFILE."""


def arguments(
    *,
    name: str,
    tag: str,
    region: str | None,
    pretrained: str | None,
    base_image: str | None,
    local: bool,
) -> list[str]:
    """The script's arguments."""
    given = ["--name", name, "--tag", tag]
    if pretrained:
        given += ["--pretrained", pretrained]
    if base_image:
        given += ["--base-image", base_image]
    if local:
        return [*given, "--local"]
    return [*given, *(["--region", region] if region else [])]


def push(given: Sequence[str], *, profile: str | None, script: Path = SCRIPT) -> str:
    """Run the script as the AWS profile, with its progress shown; the image's address.

    Raises:
        UserError: the script failed, or printed no address.
    """
    done = subprocess.run(
        ["bash", str(script), *given],
        stdout=subprocess.PIPE,
        stderr=sys.stderr if _has_descriptor() else None,
        env=_environment(os.environ, profile),
        text=True,
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode:
        raise UserError(
            f"build_and_push.sh ended with exit code {done.returncode}; its lines above say why."
        )
    if not lines:
        raise UserError("build_and_push.sh printed no address of an image.")
    return lines[-1]


def _environment(inherited: Mapping[str, str], profile: str | None) -> dict[str, str]:
    """The script's environment: its `aws` works as whom the other commands work as."""
    if not profile:
        return dict(inherited)
    # boto3 is told the profile by name, and heeds nothing else.
    kept = {name: value for name, value in inherited.items() if name not in WIN_OVER_PROFILES}
    return kept | {"AWS_PROFILE": profile}


def _has_descriptor() -> bool:
    """Whether stderr is a file that a process can write to; tests put something else there."""
    try:
        sys.stderr.fileno()
    except (AttributeError, OSError):
        return False
    return True
