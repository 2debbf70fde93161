"""What a request asks to have explained, and how."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import unquote

from werkzeug.exceptions import BadRequest

Method = Literal["cam", "occlusion", "integrated-gradients"]
METHODS: tuple[Method, ...] = get_args(Method)
MAX_THUMBNAIL = 1024
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no", "")


@dataclass(frozen=True)
class Wanted:
    """The explanation that a client asked for."""

    method: Method = "cam"
    label: str | None = None
    """The class to explain; None is the winning one."""
    layer: bool = False
    """Whether to add the map as a picture that can be laid over the image."""
    thumbnail: int | None = None
    """Side in pixels of the small picture of what the network saw that is to be added."""

    def index(self, classes: Sequence[str]) -> int | None:
        """The class's place; None is the winning one. Raises BadRequest."""
        if self.label is None:
            return None
        # Headers are ASCII: a name in other letters comes percent-encoded.
        for name in (self.label, unquote(self.label)):
            if name in classes:
                return classes.index(name)
        raise BadRequest(f"This model has no class {self.label!r}.")


def read(options: Mapping[str, str], *, picture: bool) -> Wanted | None:
    """What the parameters of a request ask for, or None where nothing is to be explained.

    `picture` says that the answer is to be an image, which is the explanation itself.

    Raises:
        BadRequest: a parameter is not what it must be.
    """
    method = options.get("explain", "cam" if picture else "")
    if not method or method == "false":
        if picture:
            raise BadRequest(
                "A picture is the explanation itself: leave explain=false out, or accept "
                "application/json."
            )
        return None
    if method == "true":
        method = "cam"
    if method not in METHODS:
        raise BadRequest(f"explain must be one of {', '.join(METHODS)}, not {method!r}.")
    thumbnail = options.get("thumbnail")
    if thumbnail is not None and not (
        re.fullmatch(r"[0-9]{2,4}", thumbnail) and 16 <= int(thumbnail) <= MAX_THUMBNAIL
    ):
        raise BadRequest(f"thumbnail must be from 16 to {MAX_THUMBNAIL} pixels, not {thumbnail!r}.")
    return Wanted(
        method=method,
        label=options.get("class"),
        layer=is_true(options, "layer"),
        thumbnail=int(thumbnail) if thumbnail else None,
    )


def is_true(options: Mapping[str, str], name: str) -> bool:
    """A parameter that switches something on; one that is not there is off. Raises BadRequest."""
    value = options.get(name, "false")
    if value.lower() in _TRUE:
        return True
    if value.lower() in _FALSE:
        return False
    raise BadRequest(f"{name} must be true or false, not {value!r}.")
