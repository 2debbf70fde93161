"""The SageMaker runtime client's methods, for endpoints on this machine."""

import io
import urllib.error
import urllib.request
from typing import Any

from botocore.exceptions import ClientError

from launcher.api import Call, check
from launcher.local.endpoint import Endpoints

INVOCATION_SECONDS = 60.0
"""As long as SageMaker waits for an answer."""

_HEADERS = {
    "ContentType": "Content-Type",
    "Accept": "Accept",
    "CustomAttributes": "X-Amzn-SageMaker-Custom-Attributes",
}


class LocalRuntime:
    """Sends invocations to the servers of endpoints."""

    def __init__(self, endpoints: Endpoints) -> None:
        self.endpoints = endpoints

    def invoke_endpoint(self, **request: Any) -> dict[str, Any]:
        """One prediction. Raises ClientError as boto3 does, with what the container said."""
        check(Call("sagemaker-runtime", "InvokeEndpoint", request), local=True)
        url = self.endpoints.server_url(request["EndpointName"]) + "/invocations"
        headers = {name: request[member] for member, name in _HEADERS.items() if member in request}
        message = urllib.request.Request(url, request["Body"], headers, method="POST")  # noqa: S310
        try:
            with urllib.request.urlopen(message, timeout=INVOCATION_SECONDS) as answer:  # noqa: S310
                return {
                    "Body": io.BytesIO(answer.read()),
                    "ContentType": answer.headers.get("Content-Type", ""),
                    "InvokedProductionVariant": "AllTraffic",
                }
        except urllib.error.HTTPError as error:
            raise _model_error(error.code, error.read().decode("utf-8", "replace")) from None
        except OSError as error:
            raise _model_error(503, f"the server does not answer: {error}") from None


def _model_error(status: int, text: str) -> ClientError:
    side = "client" if status < 500 else "server"
    message = f'Received {side} error ({status}) from primary with message "{text}".'
    return ClientError(
        {
            "Error": {"Code": "ModelError", "Message": message},
            "OriginalStatusCode": status,
            "OriginalMessage": text,
        },
        "InvokeEndpoint",
    )
