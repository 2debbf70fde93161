"""Where pretrained weights come from: a channel, the image itself, or torchvision's download.

`python -m container.pretrained DIRECTORY NAME,NAME` bakes weights into an image while it is built.
"""

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TypeGuard

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torchvision.models import get_model, get_model_weights

from container.errors import UserError
from container.hyperparameters import RESNETS

DOWNLOAD_TIMEOUT_SECONDS = 30


def find(architecture: str, channel: Path | None) -> tuple[dict[str, Tensor], str]:
    """ImageNet weights, and in words where they were found.

    Tried in order: the `pretrained` channel, the weights baked into the image, torchvision's
    download.

    Raises:
        UserError: the channel's file is unusable, or there is no way to get weights.
    """
    if channel is not None:
        path = _choose(architecture, channel)
        return _load(path), f"channel file {path.name}"
    baked = Path(os.environ.get("KENNEL_PRETRAINED_DIR", "/opt/kennel/pretrained"))
    path = baked / f"{architecture}.safetensors"
    if path.is_file():
        return _load(path), f"weights baked into the image ({path})"
    return download(architecture), "torchvision's download"


def download(architecture: str) -> dict[str, Tensor]:
    """torchvision's IMAGENET1K_V1 weights, whose features transfer better than V2's.

    Raises:
        UserError: the download failed; the message names the other ways.
    """
    weights = get_model_weights(architecture)["IMAGENET1K_V1"]
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_SECONDS)
    try:
        return dict(get_model(architecture, weights=weights, progress=False).state_dict())
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"There are no pretrained weights for {architecture}: {weights.url} could not be "
            f"fetched ({error}). Give them in a channel named 'pretrained', build the image with "
            f"--build-arg PRETRAINED={architecture}, or allow the network; or set weights=none "
            "with trainable=all to train from scratch."
        ) from None
    finally:
        socket.setdefaulttimeout(previous)


def _choose(architecture: str, channel: Path) -> Path:
    files = sorted(
        path for path in channel.rglob("*") if path.suffix in (".safetensors", ".pth", ".pt")
    )
    named = [path for path in files if architecture in path.name]
    if len(named or files) == 1:
        return (named or files)[0]
    found = ", ".join(path.name for path in files) or "no such file"
    raise UserError(
        f"The 'pretrained' channel must hold one .safetensors or .pth file for {architecture}, "
        f"named {architecture}.safetensors if there are several; found {found}."
    )


def _load(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError) as error:
        raise UserError(f"The pretrained weights {path} cannot be read: {error}.") from None
    except Exception as error:  # torch refuses what is not plain tensors with pickle's own errors
        raise UserError(
            f"The pretrained weights {path} hold more than tensors and are not loaded; save "
            f"model.state_dict() instead ({type(error).__name__})."
        ) from None
    state = content.get("state_dict", content) if isinstance(content, Mapping) else content
    if not _is_state(state):
        raise UserError(
            f"The pretrained weights {path} are not a state dict, which holds a tensor under each "
            "name; save model.state_dict()."
        )
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def _is_state(content: object) -> TypeGuard[Mapping[str, Tensor]]:
    return isinstance(content, Mapping) and all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in content.items()
    )


def bake(directory: Path, architectures: list[str]) -> None:
    """Store the weights of some architectures in a directory. Raises UserError."""
    directory.mkdir(parents=True, exist_ok=True)
    for architecture in architectures:
        if architecture not in RESNETS:
            raise UserError(f"PRETRAINED names {architecture!r}; known are {', '.join(RESNETS)}.")
        save_file(download(architecture), directory / f"{architecture}.safetensors")


if __name__ == "__main__":
    try:
        bake(Path(sys.argv[1]), sys.argv[2].split(","))
    except UserError as error:
        sys.exit(str(error))
