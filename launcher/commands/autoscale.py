"""`launch.py autoscale`: as many machines behind the endpoint as its requests need."""

import argparse

from container.errors import UserError
from launcher import autoscaling
from launcher.autoscaling import Scaling
from launcher.session import Session

HELP = "scale the endpoint with its requests"


def add(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    usual = Scaling()
    parser.add_argument("--endpoint", metavar="NAME", help="(the last one)")
    parser.add_argument("--min", type=int, default=usual.least, help=f"machines ({usual.least})")
    parser.add_argument("--max", type=int, default=usual.most, help=f"machines ({usual.most})")
    parser.add_argument(
        "--invocations",
        type=float,
        default=usual.invocations,
        help=f"a minute and machine ({usual.invocations:g})",
    )
    parser.add_argument(
        "--out",
        type=int,
        default=usual.out_seconds,
        metavar="SECONDS",
        help=f"between two additions ({usual.out_seconds})",
    )
    parser.add_argument(
        "--in",
        dest="into",
        type=int,
        default=usual.in_seconds,
        metavar="SECONDS",
        help=f"between two removals ({usual.in_seconds})",
    )


def run(session: Session, options: argparse.Namespace) -> int:
    """Register the endpoint, and give it a policy; both may be done again with other numbers."""
    name = options.endpoint or session.last("endpoint")
    if not name:
        raise UserError("There is no endpoint yet: run `./launch.py deploy` first.")
    scaling = Scaling(options.min, options.max, options.invocations, options.out, options.into)
    calls = autoscaling.calls(name, scaling)
    if options.dry_run:
        session.show(calls)
        return 0
    for call in calls:
        session.send(call)
    session.console.say(
        f"{name} has {scaling.least} to {scaling.most} machines now, for {scaling.invocations:g} "
        "requests a minute each; every machine costs money."
    )
    session.console.result({"endpoint": name, "min": scaling.least, "max": scaling.most})
    session.console.next(("./launch.py delete", "stop it all"))
    return 0
