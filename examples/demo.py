"""`make demo`: from a folder of images to answers over HTTP, with no Docker and no account.

Writes handwritten digits as JPEGs, trains a ResNet-18 on them from scratch through `./train`,
serves it through `./serve`, and asks it about scans that it has never seen.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError

from examples.digits import write_digits
from launcher.local import loopback

ROOT = Path(__file__).resolve().parent.parent
HYPERPARAMETERS = {
    "weights": "none",  # ImageNet's weights are a download; the digits do without
    "trainable": "all",
    "image-size": "64",
    "epochs": "6",
    "lr": "0.002",
    "crop-scale": "0.7",
    "flip": "false",  # a mirrored digit is another digit, or none
    "debug": "losses",
}
LEAST_ACCURACY = 0.97
START_SECONDS = 60
QUESTIONS = 10
MARK = ".made-by-demo"
"""A file in a demo's directory, which the next demo may empty."""


def main(directory: Path) -> None:
    """Run the whole walk-through in a directory; that of an earlier demo is emptied first."""
    started = time.monotonic()
    _empty(directory)
    _say(f"1/4  Writing 1,797 handwritten digits as JPEGs to {directory}/input/data/training")
    images = directory / "input/data/training"
    write_digits(images)
    config = directory / "input/config"
    config.mkdir(parents=True)
    (config / "hyperparameters.json").write_text(json.dumps(HYPERPARAMETERS, indent=2))

    _say("2/4  Training a ResNet-18 from scratch: ./train")
    environment = os.environ | {"SAGEMAKER_BASE_DIR": str(directory.resolve())}
    training = subprocess.run([sys.executable, ROOT / "train"], env=environment, check=False)
    if training.returncode:
        sys.exit("Training failed; its reason stands above.")

    _say("3/4  Serving it: ./serve")
    with _serve(environment) as address:
        _say(f"4/4  Asking about scans it has never seen: {_command(Path('SCAN.jpg'), address)}")
        right = _ask(sorted((images / "test").glob("*/*.jpg")), address)

    accuracy = json.loads((directory / "model/model.json").read_text())["metrics"]["test:accuracy"]
    print(f"\n{right} of {QUESTIONS} answers are right; on all held-out digits: {accuracy:.1%}.")
    print(f"The whole took {time.monotonic() - started:.0f} s.\n")
    print(f"The model:  {directory}/model")
    print(f"The report: {directory}/output/data/report.html (open it in a browser)\n")
    print("Next: serve it again, and ask it from another terminal\n")
    print(f"  SAGEMAKER_BASE_DIR=$PWD/{directory} PATH=$PWD/.venv/bin:$PATH ./serve")
    print(f"  {_command(next(images.glob('test/7/*.jpg')), 'http://127.0.0.1:8080')}\n")
    print("or do the whole journey with images of your own, one folder per class:\n")
    print("  source .venv/bin/activate && ./launch.py run --data FOLDER")
    if accuracy < LEAST_ACCURACY:
        sys.exit(f"error: fewer than {LEAST_ACCURACY:.0%} of the held-out digits were recognised.")


def _empty(directory: Path) -> None:
    """Make the directory afresh; ends where it holds anything but an earlier demo."""
    own = not directory.exists() or (directory / MARK).exists()
    if not own and (directory.is_file() or any(directory.iterdir())):
        sys.exit(
            f"error: {directory} holds something else than a demo; remove it, or name another."
        )
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    (directory / MARK).touch()


@contextmanager
def _serve(environment: dict[str, str]) -> Iterator[str]:
    """Run `./serve` on a free port until the block ends; yields its address when it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, ROOT / "serve"],
        env=environment | {"SAGEMAKER_BIND_TO_PORT": str(port)},
    )
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + START_SECONDS
        while not _is_healthy(address):
            if server.poll() is not None or time.monotonic() > deadline:
                sys.exit("The server did not start; its reason stands above.")
            time.sleep(0.05)
        yield address
    finally:
        server.terminate()
        server.wait()


def _is_healthy(address: str) -> bool:
    try:
        with loopback.send(f"{address}/ping", seconds=2) as answer:
            return answer.status == 200
    except (URLError, OSError):
        return False


def _ask(scans: list[Path], address: str) -> int:
    """Ask about QUESTIONS scans, spread over the classes, and return how many answers are right."""
    right = 0
    print("\n  truth  answer  probability  scan")
    for scan in scans[:: len(scans) // QUESTIONS][:QUESTIONS]:
        best = json.loads(_predict(scan, address))[0]
        truth = scan.parent.name
        right += best["label"] == truth
        mark = " " if best["label"] == truth else "✗"
        print(f"  {truth:>5}  {best['label']:>6}{mark} {best['probability']:>11.1%}  {scan}")
    return right


def _predict(scan: Path, address: str) -> bytes:
    if shutil.which("curl"):
        arguments = ["curl", "--silent", "--show-error", "--fail", "--noproxy", "*"]
        arguments += ["--data-binary", f"@{scan}"]
        arguments += ["--header", "Content-Type: image/jpeg", "--header", f"Accept: {VERBOSE}"]
        arguments += [f"{address}/invocations"]
        return subprocess.run(arguments, capture_output=True, check=True).stdout
    request = urllib.request.Request(
        f"{address}/invocations",
        data=scan.read_bytes(),
        headers={"Content-Type": "image/jpeg", "Accept": VERBOSE},
    )
    with loopback.send(request, seconds=60) as answer:
        return answer.read()


VERBOSE = "application/json; verbose=true"


def _command(scan: Path, address: str) -> str:
    # Where a proxy is set, curl would ask it for this machine's own address.
    direct = "--noproxy '*' " if urllib.request.getproxies() else ""
    return (
        f"curl {direct}--data-binary @{scan} -H 'Content-Type: image/jpeg' "
        f"-H 'Accept: {VERBOSE}' {address}/invocations"
    )


def _say(text: str) -> None:
    print(f"\n{text}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
