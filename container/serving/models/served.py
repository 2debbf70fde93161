"""What a server answers with: Kennel's own model, or the model's own script where it is allowed."""

from pathlib import Path

from container.serving import classifier
from container.serving.classifier import Classifier
from container.serving.invocation import Model, Pipeline
from container.serving.models.script import FILE, Script
from container.serving.settings import Settings


def load(settings: Settings, slot: int, directory: Path | None = None) -> Model:
    """The model in a directory, by default the server's own; `slot` as in `classifier.load`.

    Raises:
        UserError: the artifact or the script cannot be used, or not on this machine.
    """
    place = directory or settings.model_dir

    def own() -> Classifier:
        return classifier.load(settings, slot, place)

    if settings.script and (place / FILE).exists():
        return Script(place, own, settings.seconds)
    return Pipeline(own(), settings.seconds)
