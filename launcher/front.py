"""A Lambda in front of an endpoint, with a role that may invoke that one endpoint only."""

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from container.errors import UserError
from launcher import arns, policies
from launcher.api import Call
from launcher.names import tags
from launcher.refusals import is_denied, is_missing, is_taken, sentence
from launcher.session import Session

ALIAS = "live"
RUNTIME = "python3.12"
SECONDS = 60
"""As long as an endpoint may take."""
LOG_DAYS = 30
READY_SECONDS = 120.0
ENDPOINT = "ENDPOINT_NAME"
"""What the function's environment calls the endpoint."""
_HANDLER = Path(__file__).with_name("front_handler.py")


def function_name(project: str) -> str:
    """Of the function, its role and its policy."""
    return f"{project}-front"


def archive() -> bytes:
    """The function's code, the same bytes every time."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        entry = zipfile.ZipInfo("front_handler.py", (2026, 1, 1, 0, 0, 0))
        entry.external_attr = 0o644 << 16
        file.writestr(entry, _HANDLER.read_text(encoding="utf-8"))
    return content.getvalue()


def calls(
    project: str, endpoint: str, *, region: str, account: str, provisioned: int
) -> list[Call]:
    """Everything that is made, in order."""
    name = function_name(project)
    role = f"arn:{arns.partition(region)}:iam::{account}:role/{name}"
    policy = policies.front(region, account, name, endpoint)
    group = f"/aws/lambda/{name}"
    flat = {tag["Key"]: tag["Value"] for tag in tags(project)}
    made = [
        Call(
            "iam",
            "CreateRole",
            {
                "RoleName": name,
                "AssumeRolePolicyDocument": json.dumps(policies.trust("lambda")),
                "Tags": tags(project),
            },
        ),
        Call(
            "iam",
            "PutRolePolicy",
            {"RoleName": name, "PolicyName": name, "PolicyDocument": json.dumps(policy)},
        ),
        Call("logs", "CreateLogGroup", {"logGroupName": group, "tags": flat}),
        Call("logs", "PutRetentionPolicy", {"logGroupName": group, "retentionInDays": LOG_DAYS}),
        Call(
            "lambda",
            "CreateFunction",
            {
                "FunctionName": name,
                "Runtime": RUNTIME,
                "Role": role,
                "Handler": "front_handler.handler",
                "Code": {"ZipFile": archive()},
                "Timeout": SECONDS,
                "Environment": {"Variables": {ENDPOINT: endpoint}},
                "Tags": flat,
            },
        ),
        Call("lambda", "PublishVersion", {"FunctionName": name}),
        Call(
            "lambda", "CreateAlias", {"FunctionName": name, "Name": ALIAS, "FunctionVersion": "1"}
        ),
        Call(
            "lambda",
            "CreateFunctionUrlConfig",
            {"FunctionName": name, "Qualifier": ALIAS, "AuthType": "AWS_IAM"},
        ),
    ]
    if provisioned:
        concurrency = {
            "FunctionName": name,
            "Qualifier": ALIAS,
            "ProvisionedConcurrentExecutions": provisioned,
        }
        made.append(Call("lambda", "PutProvisionedConcurrencyConfig", concurrency))
    return made


def check(session: Session, endpoint: str) -> None:
    """Refuse before anything is changed: to guard the front of another endpoint, or of others.

    Raises:
        UserError: there is a Lambda or a role of that name for something else.
    """
    name = function_name(session.settings.project)
    wanted = {tag["Key"]: tag["Value"] for tag in tags(session.settings.project)}
    function_tags = _function_tags(session)
    for what, carried in (("role", _role_tags(session)), ("Lambda", function_tags)):
        if carried is not None and not wanted.items() <= carried.items():
            raise UserError(
                f"There is a {what} {name} that was not made for this project: take another "
                "--project."
            )
    if function_tags is None:
        return
    found = session.backend.client("lambda").get_function(FunctionName=name)["Configuration"]
    other = found.get("Environment", {}).get("Variables", {}).get(ENDPOINT)
    if other != endpoint:
        raise UserError(
            f"The Lambda {name} stands before the endpoint {other}; delete it first, or take "
            "another --project."
        )


def make(session: Session, made: list[Call]) -> str:
    """Send the requests; what is there already stays. The function's URL.

    Raises:
        UserError: it does not come up.
    """
    version: dict[str, str] = {}
    for call in made:
        if call.operation == "CreateFunctionUrlConfig" and _url(session, call):
            continue
        # Its number goes on from those of a function of that name that was deleted.
        numbered = version if call.operation == "CreateAlias" else {}
        answer = _send(session, replace(call, request={**call.request, **numbered}))
        if call.operation == "CreateFunction":
            _wait(session, call.request)
        elif call.operation == "PublishVersion":
            version = {"FunctionVersion": answer["Version"]}
    return next(_url(session, call) for call in made if call.operation == "CreateFunctionUrlConfig")


def _send(session: Session, call: Call) -> dict[str, Any]:
    for _ in session.backend.patience.until(READY_SECONDS, "The Lambda's role"):
        try:
            return session.send(call)
        except ClientError as error:
            if is_taken(error):
                return {}
            # A new role is known everywhere only after some seconds.
            if "cannot be assumed" not in str(error):
                raise
    return {}


def _url(session: Session, call: Call) -> str:
    """The function's URL, or nothing where it has none."""
    qualified = {key: call.request[key] for key in ("FunctionName", "Qualifier")}
    try:
        answer = session.backend.client("lambda").get_function_url_config(**qualified)
    except ClientError as error:
        if is_missing(error):
            return ""
        raise
    return str(answer["FunctionUrl"])


def _wait(session: Session, request: Mapping[str, Any]) -> None:
    """A function is not ready at once. Raises UserError where it fails."""
    client, name = session.backend.client("lambda"), request["FunctionName"]
    for _ in session.backend.patience.until(READY_SECONDS, f"The Lambda {name}"):
        configuration = client.get_function(FunctionName=name)["Configuration"]
        state = configuration.get("State", "Active")
        if state == "Active":
            return
        if state == "Failed":
            raise UserError(f"The Lambda {name} failed: {configuration.get('StateReason')}")


def found(session: Session) -> dict[str, Callable[[], object]]:
    """What there is of the front, each with what removes it; only what carries our tags.

    Where these credentials may not look, that is said, and nothing is found.
    """
    if "lambda" not in session.backend.clients:
        return {}
    name = function_name(session.settings.project)
    wanted = {tag["Key"]: tag["Value"] for tag in tags(session.settings.project)}
    there: dict[str, Callable[[], object]] = {}
    function, iam = session.backend.client("lambda"), session.backend.client("iam")
    logs, group = session.backend.client("logs"), f"/aws/lambda/{name}"
    if _carries(session, _function_tags, wanted):
        there[f"Lambda {name}"] = lambda: function.delete_function(FunctionName=name)
        there[f"log {group}"] = lambda: logs.delete_log_group(logGroupName=group)
    if _carries(session, _role_tags, wanted):
        there[f"policy of the role {name}"] = lambda: iam.delete_role_policy(
            RoleName=name, PolicyName=name
        )
        there[f"role {name}"] = lambda: iam.delete_role(RoleName=name)
    return there


def _carries(
    session: Session, read: Callable[[Session], dict[str, str] | None], wanted: dict[str, str]
) -> bool:
    try:
        carried = read(session)
    except ClientError as error:
        if not is_denied(error):
            raise
        session.console.say(f"Whether there is a front cannot be seen. {sentence(error)}")
        return False
    return carried is not None and wanted.items() <= carried.items()


def _function_tags(session: Session) -> dict[str, str] | None:
    """The tags of the function, None where there is none.

    What describes it gives tags to those alone who may list them, and says nothing otherwise.
    """
    client, name = session.backend.client("lambda"), function_name(session.settings.project)
    try:
        arn = client.get_function(FunctionName=name)["Configuration"]["FunctionArn"]
        found: dict[str, str] = client.list_tags(Resource=arn)["Tags"]
    except ClientError as error:
        if is_missing(error):
            return None
        raise
    return found


def _role_tags(session: Session) -> dict[str, str] | None:
    """The tags of the function's role, None where there is none."""
    client, name = session.backend.client("iam"), function_name(session.settings.project)
    try:
        found = client.list_role_tags(RoleName=name)["Tags"]
    except ClientError as error:
        if is_missing(error):
            return None
        raise
    return {tag["Key"]: tag["Value"] for tag in found}
