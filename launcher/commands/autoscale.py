"""`launch.py autoscale`: as many machines behind the endpoint as its requests need."""

import argparse

from launcher import autoscaling, endpoint
from launcher.autoscaling import Scaling
from launcher.commands import asked
from launcher.session import Session

HELP = "scale the endpoint with its requests"


def add(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    usual = Scaling()
    asked.endpoint_flag(parser)
    parser.add_argument(
        "--min",
        type=int,
        default=usual.least,
        metavar="N",
        help=f"machines that always run, and cost money ({usual.least})",
    )
    parser.add_argument(
        "--max", type=int, default=usual.most, metavar="N", help=f"most machines ({usual.most})"
    )
    aim = parser.add_mutually_exclusive_group()
    aim.add_argument(
        "--concurrent",
        type=float,
        default=usual.concurrent,
        metavar="N",
        help="add machines while each has more requests than this at work at the same time, or "
        "waiting where the endpoint is asynchronous "
        f"({usual.concurrent:g})",
    )
    aim.add_argument(
        "--invocations",
        type=float,
        metavar="N",
        help="or while each answers more requests a minute than this",
    )
    parser.add_argument(
        "--out",
        type=int,
        default=usual.out_seconds,
        metavar="SECONDS",
        help=f"least time from one addition to the next ({usual.out_seconds})",
    )
    parser.add_argument(
        "--in",
        dest="into",
        type=int,
        default=usual.in_seconds,
        metavar="SECONDS",
        help=f"least time from one removal to the next ({usual.in_seconds})",
    )


def run(session: Session, options: argparse.Namespace) -> int:
    """Register the endpoint, and give it a policy; both may be done again with other numbers."""
    name = asked.endpoint_name(session, options)
    scaling = Scaling(
        options.min,
        options.max,
        options.concurrent,
        options.invocations,
        options.out,
        options.into,
    )
    kind = endpoint.kind(session, name)
    calls = autoscaling.calls(name, scaling, kind)
    if options.dry_run:
        session.show(calls)
        return 0
    for call in calls:
        session.send(call)
    if kind == endpoint.ASYNCHRONOUS:
        aim = f"{scaling.concurrent:g} requests that wait for each"
    elif scaling.invocations is None:
        aim = f"{scaling.concurrent:g} requests at a time each"
    else:
        aim = f"{scaling.invocations:g} requests a minute each"
    session.console.say(
        f"{name} has {scaling.least} to {scaling.most} machines now, for {aim}; every machine "
        "costs money."
    )
    session.console.result({"endpoint": name, "min": scaling.least, "max": scaling.most})
    session.console.next(("./launch.py delete", "stop it all"))
    return 0
