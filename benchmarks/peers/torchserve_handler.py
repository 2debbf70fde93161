"""TorchServe's handler."""

from typing import Any

from network import Network


class Handler:
    """An image file in, a list of numbers out."""

    def initialize(self, context: Any) -> None:
        """Load the network in a worker."""
        self.network = Network()

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[list[float]]:
        """The answers of one batch."""
        return [self.network(bytes(row.get("body") or row["data"])) for row in data]
