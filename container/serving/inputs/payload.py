"""What a request may hold, by its Content-Type, and who reads it."""

from collections.abc import Callable
from dataclasses import dataclass

from werkzeug.exceptions import BadRequest, UnsupportedMediaType
from werkzeug.http import parse_options_header

from container.serving import answer
from container.serving.inputs.archives import parse_tar, parse_zip
from container.serving.inputs.arrays import parse_array
from container.serving.inputs.documents import parse_document, parse_lines
from container.serving.inputs.forms import parse_form
from container.serving.inputs.items import Item, Payload

IMAGE_TYPES = (
    "image/jpeg",
    "image/jpg",
    "image/png",
    "image/webp",
    "image/bmp",
    "image/gif",
    "image/tiff",
    "application/x-image",
)
FORM_TYPE = "multipart/form-data"
NPY_TYPE, TAR_TYPE, ZIP_TYPE = "application/x-npy", "application/x-tar", "application/zip"
READERS: dict[str, Callable[[bytes], Payload]] = {
    NPY_TYPE: parse_array,
    answer.JSON: parse_document,
    answer.JSON_LINES: parse_lines,
    TAR_TYPE: parse_tar,
    ZIP_TYPE: parse_zip,
}
ACCEPTED = (*IMAGE_TYPES, FORM_TYPE, *READERS)
"""Every media type that a request may have."""
_SYNONYMS = {**answer.SYNONYMS, "application/x-zip-compressed": ZIP_TYPE}
_ANSWERED_BY_LINES = (answer.JSON_LINES, TAR_TYPE, ZIP_TYPE)


@dataclass(frozen=True)
class ContentType:
    """What a request says that it holds."""

    media_type: str
    boundary: str = ""
    """What separates the parts of a form."""

    @property
    def answered_as(self) -> str:
        """The media type of the answer where the client has no wish."""
        return answer.JSON_LINES if self.media_type in _ANSWERED_BY_LINES else answer.JSON


def check_content_type(content_type: str | None) -> ContentType:
    """Read the header. Raises UnsupportedMediaType, BadRequest."""
    media_type, parameters = parse_options_header(content_type)
    media_type = media_type.lower()
    media_type = _SYNONYMS.get(media_type, media_type)
    if media_type not in ACCEPTED:
        said = f"not {media_type!r}" if media_type else "and there is none"
        raise UnsupportedMediaType(f"Content-Type must be one of {', '.join(ACCEPTED)}, {said}.")
    boundary = parameters.get("boundary", "")
    if media_type == FORM_TYPE and not (boundary.isascii() and 0 < len(boundary) <= 200):
        raise BadRequest("The Content-Type multipart/form-data must name the parts' boundary.")
    return ContentType(media_type, boundary)


def parse(kind: ContentType, body: bytes) -> Payload:
    """The images in a body; encoded ones are not decoded yet.

    Raises:
        BadRequest: an empty body, or one that is damaged or of another form.
        RequestEntityTooLarge: too many images.
    """
    if not body:
        raise BadRequest("The request has no body; send the bytes of an image.")
    if kind.media_type == FORM_TYPE:
        return parse_form(kind.boundary, body)
    if kind.media_type in READERS:
        return READERS[kind.media_type](body)
    # The decoder goes by the bytes: clients' names for a format are often wrong.
    return Payload([Item(body)], several=False)
