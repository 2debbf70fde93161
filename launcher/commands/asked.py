"""Which endpoint `predict`, `explain`, `autoscale` and `front` mean, and which of its models."""

import argparse

from container.errors import UserError
from launcher.session import Session


def endpoint_flag(parser: argparse.ArgumentParser) -> None:
    """`--endpoint`."""
    parser.add_argument("--endpoint", metavar="NAME", help="which endpoint (the last one)")


def model_flags(parser: argparse.ArgumentParser) -> None:
    """`--target` and `--component`, for endpoints with several models."""
    model = parser.add_mutually_exclusive_group()
    model.add_argument(
        "--target",
        metavar="JOB",
        help="whose model, of an endpoint with many (deploy --multi-model)",
    )
    model.add_argument("--component", metavar="NAME", help="which component (deploy --components)")


def endpoint_name(session: Session, options: argparse.Namespace) -> str:
    """The endpoint that is meant. Raises UserError where there is none yet."""
    name = options.endpoint or session.last("endpoint")
    if not name:
        raise UserError(
            "There is no endpoint yet: run `./launch.py deploy` first, or give --endpoint NAME."
        )
    return str(name)


def model(options: argparse.Namespace) -> dict[str, str]:
    """The members of a request that say which model is meant."""
    chosen: dict[str, str] = {}
    if options.target:
        chosen["TargetModel"] = f"{options.target.removesuffix('.tar.gz')}.tar.gz"
    if options.component:
        chosen["InferenceComponentName"] = options.component
    return chosen
