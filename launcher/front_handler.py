"""The Lambda's whole code: an image in, the endpoint's answer out. It is zipped as it stands."""

import base64
import functools
import json
import os
from typing import Any

import boto3
from botocore.exceptions import ClientError

IMAGE = "application/x-image"
SAID_BY_CURL = "application/x-www-form-urlencoded"
"""What `curl --data-binary` calls a body that nobody has called anything."""


@functools.cache
def _runtime() -> Any:
    """The client, which the function's instance keeps from one request to the next."""
    return boto3.client("sagemaker-runtime")


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer one request to the function's URL."""
    body = event.get("body") or ""
    image = base64.b64decode(body) if event.get("isBase64Encoded") else body.encode()
    if not image:
        return _answer(400, {"error": "Send the bytes of an image as the body."})
    headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
    kind = headers.get("content-type", IMAGE)
    try:
        answer = _runtime().invoke_endpoint(
            EndpointName=os.environ["ENDPOINT_NAME"],
            Body=image,
            ContentType=IMAGE if kind == SAID_BY_CURL else kind,
            Accept="application/json; verbose=true",
        )
    except ClientError as error:
        status = error.response.get("OriginalStatusCode", 502)
        said = error.response.get("OriginalMessage") or "The endpoint does not answer."
        return _answer(status, {"error": said})
    return _answer(200, json.loads(answer["Body"].read()))


def _answer(status: int, content: Any) -> dict[str, Any]:
    headers = {"content-type": "application/json"}
    return {"statusCode": status, "headers": headers, "body": json.dumps(content)}
