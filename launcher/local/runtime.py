"""The SageMaker runtime client's methods, for endpoints on this machine."""

import io
import secrets
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from launcher.api import Call, check
from launcher.local import loopback
from launcher.local.endpoint import Endpoints
from launcher.local.jobs import client_error, local_path

INVOCATION_SECONDS = 60.0
"""As long as SageMaker waits for an answer."""

_HEADERS = {
    "ContentType": "Content-Type",
    "Accept": "Accept",
    "CustomAttributes": "X-Amzn-SageMaker-Custom-Attributes",
    "TargetModel": "X-Amzn-SageMaker-Target-Model",
}


class LocalRuntime:
    """Sends invocations to the servers of endpoints."""

    def __init__(self, endpoints: Endpoints) -> None:
        self.endpoints = endpoints

    def invoke_endpoint(self, **request: Any) -> dict[str, Any]:
        """One prediction. Raises ClientError as boto3 does, with what the container said."""
        check(Call("sagemaker-runtime", "InvokeEndpoint", request), local=True)
        content, media_type = self._post(request, request["Body"])
        return {
            "Body": io.BytesIO(content),
            "ContentType": media_type,
            "InvokedProductionVariant": "AllTraffic",
        }

    def invoke_endpoint_async(self, **request: Any) -> dict[str, Any]:
        """One prediction whose answer goes to a file; here it is there at once."""
        check(Call("sagemaker-runtime", "InvokeEndpointAsync", request), local=True)
        name = request["EndpointName"]
        found = self.endpoints.describe_endpoint(EndpointName=name)
        if "AsyncInferenceConfig" not in found:
            message = f"Endpoint {name} is not asynchronous."
            raise client_error("ValidationError", message, "InvokeEndpointAsync")
        places, identifier = found["AsyncInferenceConfig"]["OutputConfig"], secrets.token_hex(8)
        answer = local_path(places["S3OutputPath"]) / f"{identifier}.out"
        failure = local_path(places["S3FailurePath"]) / f"{identifier}-error.out"
        try:
            body = local_path(request["InputLocation"]).read_bytes()
            content, place = self._post(request, body)[0], answer
        except ClientError as error:
            content, place = str(error).encode(), failure
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        return {
            "InferenceId": identifier,
            "OutputLocation": answer.as_uri(),
            "FailureLocation": failure.as_uri(),
        }

    def _post(self, request: Mapping[str, Any], body: bytes) -> tuple[bytes, str]:
        """The container's answer and its media type. Raises ClientError."""
        url = self.endpoints.invocations_url(request["EndpointName"], request.get("TargetModel"))
        headers = {name: request[member] for member, name in _HEADERS.items() if member in request}
        message = urllib.request.Request(url, body, headers, method="POST")  # noqa: S310
        try:
            with loopback.send(message, INVOCATION_SECONDS) as answer:
                return answer.read(), answer.headers.get("Content-Type", "")
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
