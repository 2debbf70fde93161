"""Other programs for the same work, each in an environment of its own, as their guides say.

The servers run eager torch in float32 and Pillow, two workers of one thread each: what TorchServe,
LitServe and BentoML do when one brings a network to them. The environments are made once, in the
user's cache.
"""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "kennel/peers"


TORCHSERVE = (
    "torchserve==0.12.0",
    "torch-model-archiver==0.12.0",
    "psutil",
    "packaging",
    "pyyaml",
)


def install(environment: Path, packages: Sequence[str]) -> str | None:
    """An environment of its own, made once, with the torch of this one; why it cannot be made."""
    done = environment / "installed"
    if done.exists():
        return None
    uv = [sys.executable, "-m", "uv"]
    torch = [f"{name}=={version(name)}" for name in ("torch", "torchvision")]
    python = str(environment / "bin/python")
    for command in (
        [*uv, "venv", "--quiet", "--clear", "--python", "3.11", str(environment)],
        [*uv, "pip", "install", "--quiet", "--python", python, *torch, "pillow", *packages],
    ):
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            return (result.stderr.strip().splitlines() or ["it cannot be installed"])[-1]
    done.touch()
    return None


@dataclass(frozen=True)
class Peer:
    """One server: what is installed, how it starts, and where it answers."""

    name: str
    packages: tuple[str, ...]
    command: Callable[[Path, Path, int], list[str]]
    """From the environment, a scratch directory and a port."""
    path: str = "/invocations"
    ready: str = "/ping"
    files: Callable[[Path, Path, int], None] = lambda environment, scratch, port: None
    """Writes what the server needs into the scratch directory."""

    as_json: bool = False
    """Whether images go to it in base64 inside JSON."""

    def request(self, image: bytes) -> tuple[bytes, str]:
        """The body for one image, and its content type."""
        if not self.as_json:
            return image, "image/jpeg"
        text = json.dumps({"image": base64.b64encode(image).decode()})
        return text.encode(), "application/json"

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.name} {self.packages[0].partition('==')[2]}"

    @property
    def environment(self) -> Path:
        """Where it is installed."""
        return CACHE / re.sub(r"\W+", "-", self.name.lower())

    def install(self) -> str | None:
        """Install it, unless that was done; why it cannot be, if it cannot."""
        # TorchServe and its archiver still import pkg_resources.
        return install(self.environment, ("setuptools<81", *self.packages))

    def variables(self, scratch: Path, port: int) -> dict[str, str]:
        """The environment variables of its process."""
        return {
            "PATH": f"{self.environment / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(HERE),
            "PEER_WEIGHTS": str(scratch / "weights.pth"),
            "OMP_NUM_THREADS": "1",
            "LOG_LOCATION": str(scratch / "logs"),  # TorchServe's, else in the current directory
            "METRICS_LOCATION": str(scratch / "logs"),
            "SAGEMAKER_BASE_DIR": str(scratch / "sagemaker"),
            "SAGEMAKER_BIND_TO_PORT": str(port),
            "SAGEMAKER_SAFE_PORT_RANGE": f"{port + 1}-{port + 2}",
            "SAGEMAKER_MODEL_SERVER_WORKERS": "2",
        }


def _litserve(environment: Path, _scratch: Path, port: int) -> list[str]:
    return [str(environment / "bin/python"), str(HERE / "litserve_server.py"), str(port)]


def _bentoml(environment: Path, _scratch: Path, port: int) -> list[str]:
    program = str(environment / "bin/bentoml")
    serve = ["serve", "bentoml_server:Classifier", "--host", "127.0.0.1", "--port", str(port)]
    return [program, *serve, "--working-dir", str(HERE)]


def _torchserve(environment: Path, scratch: Path, _port: int) -> list[str]:
    store = ["--model-store", str(scratch), "--models", "net=net.mar"]
    config = ["--ts-config", str(scratch / "config.properties")]
    return [str(environment / "bin/torchserve"), "--foreground", *store, *config, "--ncs"]


def _torchserve_files(environment: Path, scratch: Path, port: int) -> None:
    addresses = {"inference": port, "management": port + 1, "metrics": port + 2}
    lines = [f"{name}_address=http://127.0.0.1:{at}" for name, at in addresses.items()]
    lines += ["default_workers_per_model=2", "disable_token_authorization=true"]
    (scratch / "config.properties").write_text("\n".join(lines) + "\n")
    archive = [str(environment / "bin/torch-model-archiver"), "--model-name", "net"]
    archive += ["--version", "1", "--handler", str(HERE / "torchserve_handler.py")]
    archive += ["--extra-files", str(HERE / "network.py"), "--export-path", str(scratch), "--force"]
    variables = os.environ | {"PATH": f"{environment / 'bin'}:{os.environ['PATH']}"}
    subprocess.run(archive, env=variables, check=True, capture_output=True)


def _multi_model_server(environment: Path, scratch: Path, _port: int) -> list[str]:
    store = ["--model-store", str(scratch / "mms"), "--models", "net=net.mar"]
    config = ["--mms-config", str(scratch / "mms/config.properties")]
    program = str(environment / "bin/multi-model-server")
    return [program, "--start", "--foreground", *store, *config]


def _multi_model_server_files(_environment: Path, scratch: Path, port: int) -> None:
    (scratch / "mms").mkdir(exist_ok=True)
    addresses = {"inference": port, "management": port + 1}
    lines = [f"{name}_address=http://127.0.0.1:{at}" for name, at in addresses.items()]
    lines.append("default_workers_per_model=2")
    (scratch / "mms/config.properties").write_text("\n".join(lines) + "\n")
    entry = {"modelName": "net", "handler": "mms_handler:handle"}
    manifest = {"specificationVersion": "1.0", "runtime": "python", "model": entry}
    with zipfile.ZipFile(scratch / "mms/net.mar", "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        for name in ("mms_handler.py", "network.py"):
            archive.write(HERE / name, name)


def _sagemaker(environment: Path, scratch: Path, _port: int) -> list[str]:
    program = str(HERE / "sagemaker_server.py")
    return [str(environment / "bin/python"), program, str(scratch / "sagemaker")]


def _sagemaker_files(_environment: Path, scratch: Path, _port: int) -> None:
    code = scratch / "sagemaker/model/code"
    code.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "sagemaker_inference_script.py", code / "inference.py")


PEERS = (
    Peer("LitServe", ("litserve==0.2.19",), _litserve, as_json=True),
    Peer("BentoML", ("bentoml==1.4.39",), _bentoml, ready="/healthz"),
    Peer(
        "TorchServe",
        TORCHSERVE,
        _torchserve,
        path="/predictions/net",
        files=_torchserve_files,
    ),
    Peer(
        "multi-model-server",
        ("multi-model-server==1.1.11", "setuptools<81"),
        _multi_model_server,
        path="/predictions/net",
        files=_multi_model_server_files,
    ),
    Peer(
        "SageMaker's PyTorch toolkit",
        ("sagemaker-pytorch-inference==2.0.25", *TORCHSERVE),
        _sagemaker,
        files=_sagemaker_files,
    ),
)
