"""What `--on` chooses: clients with the same methods, and the names of what they work with."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from container.errors import UserError
from launcher.settings import Settings
from launcher.store import FileStore, Store
from launcher.waiting import Patience

LOCAL_ROLE = "arn:aws:iam::000000000000:role/kennel-on-this-machine"
LOCAL_IMAGE = "kennel:latest"


@dataclass(frozen=True)
class Backend:
    """Where the stages' requests go. Stages know no more of it than this."""

    name: str
    clients: Mapping[str, Any]
    """By botocore's names of the services."""
    store: Store
    role: str
    image: str
    patience: Patience
    paid: bool
    """Whether what runs there costs money by the hour."""

    def client(self, service: str) -> Any:
        """The client of a service. Raises UserError where the backend has none."""
        if service not in self.clients:
            raise UserError(
                f"There is no {service} on this machine; add --on sagemaker, or leave this out."
            )
        return self.clients[service]


def connect(settings: Settings, directory: Path) -> Backend:
    """The backend that the settings name. Raises UserError where it cannot be used."""
    return _on_this_machine(settings, directory)


def _on_this_machine(settings: Settings, directory: Path) -> Backend:
    from launcher.local.client import LocalSageMaker
    from launcher.local.jobs import JobsFolder
    from launcher.local.logs import LocalLogs
    from launcher.local.runtime import LocalRuntime

    folder = JobsFolder((directory / settings.jobs_dir).resolve())
    sagemaker = LocalSageMaker(folder, settings.on)
    return Backend(
        name=settings.on,
        clients={
            "sagemaker": sagemaker,
            "sagemaker-runtime": LocalRuntime(sagemaker),
            "logs": LocalLogs(folder),
        },
        store=FileStore(folder.root / "results"),
        role=settings.role or LOCAL_ROLE,
        image=settings.image or LOCAL_IMAGE,
        patience=Patience(0.3),
        paid=False,
    )
