"""`launch.py front`: a Lambda with a URL in front of the endpoint."""

import argparse

from container.errors import UserError
from launcher import endpoint, front
from launcher.commands import asked
from launcher.session import Session

HELP = "put a Lambda with a URL in front of the endpoint"


def add(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    asked.endpoint_flag(parser)
    parser.add_argument(
        "--provisioned",
        type=int,
        default=0,
        metavar="N",
        help="instances that are always warm, which cost money all the time (0)",
    )


def run(session: Session, options: argparse.Namespace) -> int:
    """Role, log, function, alias, URL."""
    name = asked.endpoint_name(session, options)
    identity = session.backend.client("sts").get_caller_identity()
    front.check(session, name)
    kind = endpoint.kind(session, name)
    if kind in (endpoint.ASYNCHRONOUS, endpoint.COMPONENTS, endpoint.MULTI_MODEL):
        raise UserError(
            f"{name} is {kind}; front passes images on to an endpoint of one model that answers "
            "at once."
        )
    calls = front.calls(
        session.settings.project,
        name,
        region=session.backend.region,
        account=identity["Account"],
        provisioned=options.provisioned,
    )
    if options.dry_run:
        session.show(calls)
        return 0
    url = front.make(session, calls)
    session.console.say(f"{url} answers whoever may call it: requests are signed with AWS's IAM.")
    session.console.say(
        f"  curl --aws-sigv4 aws:amz:{session.backend.region}:lambda --user KEY:SECRET "
        f"-H 'Content-Type: image/jpeg' --data-binary @IMAGE {url}"
    )
    session.console.say(
        "  with a log-in that ends, as of `aws sso login`, also -H 'x-amz-security-token: TOKEN'"
    )
    session.console.result({"function": front.function_name(session.settings.project), "url": url})
    session.console.next(("./launch.py delete", "stop it all"))
    return 0
