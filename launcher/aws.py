"""AWS itself: clients that retry, and the account's own names."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import NoCredentialsError, PartialCredentialsError

from container.errors import UserError
from launcher import refusals
from launcher.s3 import S3Store
from launcher.settings import Settings

SERVICES = (
    "sagemaker",
    "sagemaker-runtime",
    "logs",
    "s3",
    "ecr",
    "iam",
    "lambda",
    "application-autoscaling",
    "service-quotas",
    "sts",
)
RETRIES = Config(
    retries={"mode": "adaptive", "total_max_attempts": 10},
    connect_timeout=10,
    read_timeout=70,  # an endpoint may take 60 seconds to answer
)


@dataclass(frozen=True)
class Account:
    """One account in one region, asked for its number only when a name needs it."""

    settings: Settings

    @cached_property
    def session(self) -> boto3.Session:
        """boto3's session for the region and profile. Raises UserError."""
        session = boto3.Session(
            region_name=self.settings.region, profile_name=self.settings.aws_profile
        )
        if not session.region_name:
            raise UserError("There is no AWS region: give --region, or set AWS_REGION.")
        return session

    @property
    def region(self) -> str:
        """The region that everything happens in."""
        return str(self.session.region_name)

    @cached_property
    def number(self) -> str:
        """The account's twelve digits. Raises UserError where there are no credentials."""
        try:
            identity = self.session.client("sts", config=RETRIES).get_caller_identity()
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise UserError(
                f"{refusals.sentence(error)} The bucket and the image are named after the account; "
                "with --bucket and --image a --dry-run needs none."
            ) from None
        return str(identity["Account"])

    @property
    def domain(self) -> str:
        """China's regions have addresses of their own."""
        return "amazonaws.com.cn" if self.region.startswith("cn-") else "amazonaws.com"

    @property
    def image(self) -> str:
        """Where `push` puts the image."""
        return f"{self.number}.dkr.ecr.{self.region}.{self.domain}/kennel:latest"

    @property
    def bucket(self) -> str:
        """The bucket that SageMaker's own tools use, which its managed policy allows."""
        return self.settings.bucket or f"sagemaker-{self.region}-{self.number}"

    @property
    def role(self) -> str:
        """The role that SageMaker works as. Raises UserError where none was named."""
        if not self.settings.role:
            raise UserError(
                "SageMaker needs a role to work as: give --role ARN once "
                "(docs/launcher-permissions.md has the smallest policy that it needs)."
            )
        return self.settings.role

    def store(self) -> S3Store:
        """The bucket and the place in it."""
        client = self.session.client("s3", config=RETRIES)
        return S3Store(client, self.bucket, self.settings.prefix.strip("/"), self.region)


class Clients(Mapping[str, Any]):
    """boto3's clients by botocore's names of the services, made when they are first needed."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._made: dict[str, Any] = {}

    def __getitem__(self, service: str) -> Any:
        if service not in SERVICES:
            raise KeyError(service)
        if service not in self._made:
            self._made[service] = self._account.session.client(service, config=RETRIES)
        return self._made[service]

    def __iter__(self) -> Iterator[str]:
        return iter(SERVICES)

    def __len__(self) -> int:
        return len(SERVICES)
