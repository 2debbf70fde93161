"""Build the image as people do, and wait for a server in it as SageMaker does."""

import os
import subprocess
import urllib.error
import urllib.request
import uuid
from pathlib import Path

from docker_engine import Container, wait_until

REPOSITORY = Path(__file__).parents[2]
START_SECONDS = 90


def build(context: Path, *options: str) -> str:
    """Build the image with the repository's own script; its name."""
    base = os.environ.get("KENNEL_BASE_IMAGE")
    options += ("--base-image", base) if base else ()
    done = subprocess.run(
        [context / "build_and_push.sh", "--local", "--tag", f"test-{uuid.uuid4().hex}", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.splitlines()[-1]


def ping(running: Container) -> int | None:
    """The status of /ping, or nothing while nobody listens."""
    try:
        with urllib.request.urlopen(f"http://{running.address()}/ping", timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return None


def wait_until_healthy(running: Container) -> set[int | None]:
    """Ping as SageMaker does until the answer is 200; the statuses seen before."""
    seen: set[int | None] = set()

    def healthy() -> bool:
        assert running.running(), running.logs()
        status = ping(running)
        if status == 200:
            return True
        seen.add(status)
        return False

    wait_until(healthy, seconds=START_SECONDS, what="/ping to answer 200")
    return seen
