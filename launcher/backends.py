"""What `--on` chooses: clients with the same methods, and the names of what they work with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from container.errors import UserError
from launcher import limits
from launcher.memory import Memory
from launcher.settings import Settings
from launcher.store import FileStore, Store
from launcher.waiting import Patience

LOCAL_ROLE = "arn:aws:iam::000000000000:role/kennel-on-this-machine"
LOCAL_IMAGE = "kennel:latest"
LOCAL_SECONDS = 0.3
SAGEMAKER_SECONDS = 10.0


@dataclass(frozen=True)
class Backend:
    """Where the stages' requests go. Stages know no more of it than this."""

    name: str
    clients: Mapping[str, Any]
    """By botocore's names of the services."""
    find_store: Callable[[], Store]
    find_role: Callable[[], str]
    find_image: Callable[[], str]
    find_region: Callable[[], str]
    patience: Patience
    paid: bool
    """Whether what runs there costs money by the hour."""

    @cached_property
    def store(self) -> Store:
        """Where data and results lie. Raises UserError where its name needs an account."""
        return self.find_store()

    @property
    def region(self) -> str:
        """Where everything happens. Raises UserError where it is not known."""
        return self.find_region()

    @property
    def role(self) -> str:
        """The role that jobs work as. Raises UserError where it is needed and not known."""
        return self.find_role()

    @property
    def image(self) -> str:
        """The image that jobs run. Raises UserError where the backend cannot use it."""
        return self.find_image()

    def client(self, service: str) -> Any:
        """The client of a service. Raises UserError where the backend has none."""
        if service not in self.clients:
            raise UserError(
                f"There is no {service} on this machine; add --on sagemaker, or leave this out."
            )
        return self.clients[service]


def connect(settings: Settings, directory: Path, memory: Memory) -> Backend:
    """The backend that the settings name. Raises UserError where it cannot be used."""
    pushed = settings.image or memory.name(settings.on, "image")
    if settings.on == "sagemaker":
        return _on_sagemaker(settings, pushed)
    return _on_this_machine(settings, directory, pushed or LOCAL_IMAGE)


def _on_sagemaker(settings: Settings, pushed: str | None) -> Backend:
    # Imported late: boto3 takes a while, and what runs on this machine needs nothing of it.
    from launcher.aws import Account, Clients

    account = Account(settings)
    return Backend(
        name=settings.on,
        clients=Clients(account),
        find_store=account.store,
        find_role=lambda: account.role,
        find_image=lambda: _checked(pushed or account.image, account.region),
        find_region=lambda: account.region,
        patience=Patience(SAGEMAKER_SECONDS),
        paid=True,
    )


def _checked(image: str, region: str) -> str:
    limits.check_image(image, region)
    return image


def _on_this_machine(settings: Settings, directory: Path, image: str) -> Backend:
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
        find_store=lambda: FileStore(folder.root / "results"),
        find_role=lambda: settings.role or LOCAL_ROLE,
        find_image=lambda: image,
        find_region=lambda: "this machine",
        patience=Patience(LOCAL_SECONDS),
        paid=False,
    )
