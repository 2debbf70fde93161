"""How many machines an account may use at once, as Service Quotas says."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from container.errors import UserError
from launcher.settings import Settings

SERVICE = "sagemaker"
_LISTS = ("list_service_quotas", "list_aws_default_service_quotas")
"""What the account has, and what every account begins with: a quota may stand in one alone."""


@dataclass(frozen=True)
class Use:
    """One use of one kind of machine."""

    what: str
    flag: str
    """The flag that chooses the machine."""
    machine: str
    quota: str
    """The quota's name, as the service has it."""


def uses(settings: Settings) -> tuple[Use, ...]:
    """What the commands use machines for."""
    training, serving = settings.instance_type, settings.endpoint_instance_type
    return (
        Use("training", "--instance-type", training, f"{training} for training job usage"),
        Use("endpoints", "--endpoint-instance-type", serving, f"{serving} for endpoint usage"),
        Use("transform", "--endpoint-instance-type", serving, f"{serving} for transform job usage"),
    )


class Quotas:
    """The account's quotas for some uses, asked for when the first is wanted."""

    def __init__(self, client: Any, region: str, wanted: Iterable[Use]) -> None:
        self._client = client
        self._region = region
        self._names = {use.quota for use in wanted}

    @cached_property
    def _found(self) -> dict[str, tuple[float, str]]:
        """Value and code by name; the list has more than a thousand entries."""
        found: dict[str, tuple[float, str]] = {}
        for operation in _LISTS:
            for page in self._client.get_paginator(operation).paginate(ServiceCode=SERVICE):
                for quota in page["Quotas"]:
                    name = quota["QuotaName"]
                    if name in self._names and name not in found:
                        found[name] = (quota["Value"], quota["QuotaCode"])
            if self._names <= set(found):
                break
        return found

    def says(self, use: Use) -> str:
        """How many machines there may be.

        Raises:
            UserError: there may be none; the message holds the command that asks for one.
            LookupError: Service Quotas says nothing of this use.
        """
        if use.quota not in self._found:
            raise LookupError(
                f"Service Quotas has no {use.quota!r} in {self._region}; if such machines are not "
                f"to be had there, choose another with {use.flag}."
            )
        most, code = self._found[use.quota]
        if most < 1:
            raise UserError(
                f"The account may use no {use.machine} for {use.what}: ask for more with `aws "
                f"service-quotas request-service-quota-increase --service-code {SERVICE} "
                f"--quota-code {code} --desired-value 1 --region {self._region}`, or choose "
                f"another machine with {use.flag}."
            )
        return f"{most:g} of {use.machine} at a time"
