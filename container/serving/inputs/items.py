"""What one request holds: images in the order in which they were sent, and what became of each."""

from collections.abc import Callable
from dataclasses import dataclass

from container.images import ImageError
from container.serving.classifier import EncodedOrPixels, Probabilities

Content = EncodedOrPixels | ImageError
"""An image as it was sent, or why this part of the request holds none."""
Outcome = Probabilities | ImageError
"""What one image shows, or why that cannot be said."""

MAX_IMAGES = 128
"""More images in one request would not be done within SageMaker's 60 seconds on a small machine."""
MAX_RECORDS = 1000
"""For archives and JSON lines, which are batch transform's and have ten minutes and more."""

OUT_OF_TIME = "The request's time was used up before this image; send fewer at a time."


@dataclass(frozen=True)
class Item:
    """One image of a request."""

    content: Content | Callable[[], Content]
    """Or what unpacks it when its turn comes."""
    name: str | None = None
    """What the client calls it, where the answer has to say so."""

    def unpacked(self) -> Content:
        """The image; from an archive it is read now."""
        return self.content() if callable(self.content) else self.content


@dataclass(frozen=True)
class Payload:
    """All images of one request."""

    items: list[Item]
    several: bool
    """Whether the answer has one entry for each image, even if there is but one.

    An image that cannot be used is then an error in its place; otherwise it is the whole answer.
    """
