"""What this image can do: the one built with `--target cpu` serves on a CPU and has no torch."""

from importlib.util import find_spec

from container.errors import UserError


def has_torch() -> bool:
    """Whether torch is installed, found without importing it."""
    return find_spec("torch") is not None


def require_torch(what: str) -> None:
    """Raises UserError, naming what needs torch, where it is not installed."""
    if not has_torch():
        raise UserError(
            f"{what} needs torch, and this image has none: it was built with --target cpu, which "
            "serves on a CPU alone. Use the image that is built without --target."
        )
