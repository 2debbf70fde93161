"""A multi-model endpoint on this machine: archives are loaded when they are first asked for."""

import hashlib
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from launcher import records
from launcher.local import layout, loopback
from launcher.local.engines import Engine
from launcher.local.jobs import client_error

MODE = "MultiModel"
MODELS = "models"
ENVIRONMENT = {"SAGEMAKER_MULTI_MODEL": "true"}
"""What SageMaker sets in the container."""
LOAD_SECONDS = 120.0


@dataclass(frozen=True)
class Models:
    """The models of one running server."""

    url: str
    archives: Path
    """The folder that the model's ModelDataUrl names."""
    base: Path
    """The server's `/opt/ml`, as it lies on this machine."""
    engine: Engine
    server: Mapping[str, Any]

    def loaded(self, target: str | None) -> str:
        """The name under which the server knows the target; it is loaded if need be.

        Raises:
            ClientError: there is no target, or no such archive, or no memory for it.
        """
        if not target:
            raise _refused("TargetModel is needed: this endpoint has several models.")
        archive = (self.archives / target).resolve()
        if not archive.is_relative_to(self.archives.resolve()) or not archive.is_file():
            known = ", ".join(sorted(path.name for path in self.archives.glob("*.tar.gz")))
            raise _refused(f"There is no model {target!r} here; there are {known}.")
        # SageMaker's names say nothing about the model either.
        name = hashlib.sha256(target.encode()).hexdigest()[:32]
        if not self._has(name):
            # Of those who ask for it at the same time one loads it, and the others wait.
            with records.locked(self.base / MODELS / name):
                if not self._has(name):
                    self._load(archive, target, name)
        return name

    def _has(self, name: str) -> bool:
        return self._ask("GET", f"/{name}")[0] == http.client.OK

    def _load(self, archive: Path, target: str, name: str) -> None:
        """Raises ClientError, UserError."""
        place = f"{MODELS}/{name}/model"
        layout.unpack(archive, self.base / place)
        order = {
            "model_name": name,
            "url": self.engine.bring_model(self.server, self.base, place),
        }
        status, said = self._ask("POST", "", order)
        while status == http.client.INSUFFICIENT_STORAGE and self._unload_one():
            status, said = self._ask("POST", "", order)
        if status not in (http.client.OK, http.client.CONFLICT):
            raise _refused(f"The model {target!r} could not be loaded ({status}): {said}")

    def _unload_one(self) -> bool:
        """Make room, as SageMaker does; False where nothing is loaded."""
        models = json.loads(self._ask("GET", "")[1])["models"]
        return bool(models) and (
            self._ask("DELETE", f"/{models[0]['modelName']}")[0] == http.client.OK
        )

    def _ask(self, method: str, path: str, body: object = None) -> tuple[int, str]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        message = urllib.request.Request(  # noqa: S310
            f"{self.url}/models{path}", data, headers, method=method
        )
        try:
            with loopback.send(message, LOAD_SECONDS) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode("utf-8", "replace")


def _refused(message: str) -> ClientError:
    return client_error("ValidationError", message, "InvokeEndpoint")
