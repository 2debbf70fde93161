"""Requests to servers on this machine, which are never sent through a proxy."""

import urllib.request
from http.client import HTTPResponse

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""`urlopen` would ask the proxy of `http_proxy`, which has a loopback address of its own."""


def send(message: urllib.request.Request | str, seconds: float) -> HTTPResponse:
    """The answer, which may take so long. Raises HTTPError for a refusal, OSError for none."""
    answer: HTTPResponse = _OPENER.open(message, timeout=seconds)
    return answer
