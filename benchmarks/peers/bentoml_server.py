"""BentoML. Run as `bentoml serve bentoml_server:Classifier`."""

from pathlib import Path
from typing import Annotated

import bentoml
from bentoml.validators import ContentType
from network import Network


@bentoml.service(workers=2)
class Classifier:
    """An image file in, a list of numbers out."""

    def __init__(self) -> None:
        self.network = Network()

    @bentoml.api(route="/invocations")  # type: ignore[untyped-decorator]  # not installed here
    def classify(self, image: Annotated[Path, ContentType("image/jpeg")], /) -> list[float]:
        """One image's answer."""
        numbers: list[float] = self.network(image.read_bytes())
        return numbers
