"""Settings that a process must be started with: the doors start themselves anew to have them.

The dynamic linker and the C library read their settings once, before any program does. Stdlib only.
"""

import os
import sys
from collections.abc import Callable, Mapping

Change = Callable[[Mapping[str, str]], dict[str, str] | None]
"""The environment to start anew with, or None where nothing needs to change."""


def ensure(*changes: Change) -> None:
    """Start this program anew where one of them asks for another environment."""
    environment: Mapping[str, str] = os.environ
    for change in changes:
        environment = change(environment) or environment
    if environment is not os.environ:
        os.execve(sys.executable, [sys.executable, *sys.argv], dict(environment))  # noqa: S606
