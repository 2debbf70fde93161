"""LitServe. Run as `python litserve_server.py PORT`."""

import base64
import sys

import litserve
from network import Network


class Classifier(litserve.LitAPI):  # type: ignore[misc]
    """JSON in, a list of numbers out."""

    def setup(self, device: str) -> None:
        """Load the network in a worker."""
        self.network = Network()

    def decode_request(self, request: dict[str, str]) -> bytes:
        """JSON with the file in base64, which its guides send images in."""
        return base64.b64decode(request["image"])

    def predict(self, data: bytes) -> list[float]:
        """One image's answer."""
        numbers: list[float] = self.network(data)
        return numbers

    def encode_response(self, output: list[float]) -> dict[str, list[float]]:
        """The answer as JSON."""
        return {"output": output}


if __name__ == "__main__":
    api = Classifier(api_path="/invocations")
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=2, healthcheck_path="/ping"
    )
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False)
