"""Ask a server that runs in a container."""

import http.client
from typing import Any

from docker_engine import Container


def request(
    running: Container, method: str, path: str, body: bytes = b"", content_type: str = ""
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(running.address(), timeout=120)
    try:
        headers = {"Content-Type": content_type} if content_type else {}
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def invoke(running: Container, body: bytes, content_type: str, path: str = "/invocations") -> Any:
    status, answer = request(running, "POST", path, body, content_type)
    assert status == 200, answer
    return answer
