"""A training job's `/opt/ml`, laid out on this machine as SageMaker lays it out."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from container.errors import UserError
from container.tar import tarfile
from launcher import records
from launcher.local.jobs import local_path

GROUP = "homogeneousCluster"
"""What SageMaker calls machines that are all alike."""


@dataclass(frozen=True)
class Host:
    """One machine of a training, and the directory whose files are laid over `/opt/ml` for it."""

    name: str
    directory: Path


def write(base: Path, request: Mapping[str, Any]) -> list[Host]:
    """Configuration files, channels and checkpoints; the hosts, the first of which has `base`.

    Raises:
        UserError: data is missing.
    """
    names = [f"algo-{number + 1}" for number in range(request["ResourceConfig"]["InstanceCount"])]
    hosts = [Host(name, base.parent / "hosts" / name) for name in names]
    hosts[0] = Host(names[0], base)
    for host in hosts:
        place = host.directory / "input/config/resourceconfig.json"
        records.write(place, _resources(request["ResourceConfig"], host.name, names))
    config = base / "input/config"
    channels = {entry["ChannelName"]: entry for entry in request.get("InputDataConfig", ())}
    records.write(config / "hyperparameters.json", request.get("HyperParameters", {}))
    records.write(
        config / "inputdataconfig.json", {name: _channel(channels[name]) for name in channels}
    )
    if hook := request.get("DebugHookConfig"):
        records.write(config / "debughookconfig.json", _hook(base, hook))
    for name in ("input/data", "model", "output/data"):
        (base / name).mkdir(parents=True, exist_ok=True)
    for name, entry in channels.items():
        _link_channel(base / "input/data" / name, entry["DataSource"]["S3DataSource"]["S3Uri"])
    if checkpoints := request.get("CheckpointConfig"):
        kept = local_path(checkpoints["S3Uri"])
        kept.mkdir(parents=True, exist_ok=True)
        (base / "checkpoints").symlink_to(kept, target_is_directory=True)
    return hosts


def _channel(entry: Mapping[str, Any]) -> dict[str, Any]:
    source = entry["DataSource"]["S3DataSource"]
    given = {
        "ContentType": entry.get("ContentType"),
        "TrainingInputMode": entry.get("InputMode", "File"),
        "S3DistributionType": source.get("S3DataDistributionType", "FullyReplicated"),
        "RecordWrapperType": entry.get("RecordWrapperType", "None"),
    }
    return {name: value for name, value in given.items() if value is not None}


def _resources(given: Mapping[str, Any], current: str, hosts: list[str]) -> dict[str, Any]:
    machine = given.get("InstanceType", "local")
    return {
        "current_host": current,
        "current_instance_type": machine,
        "current_group_name": GROUP,
        "hosts": hosts,
        "instance_groups": [
            {"instance_group_name": GROUP, "instance_type": machine, "hosts": hosts}
        ],
        "network_interface_name": "eth0",
    }


def _hook(base: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """The request's form has other names than the file's, as smdebug reads it."""
    local = given.get("LocalPath", "/opt/ml/output/tensors")
    return {
        "S3OutputPath": given["S3OutputPath"],
        "LocalPath": str(base / Path(local).relative_to("/opt/ml")),
        "HookParameters": given.get("HookParameters", {}),
        "CollectionConfigurations": given.get("CollectionConfigurations", []),
    }


def _link_channel(place: Path, uri: str) -> None:
    """The user's files themselves: nothing is copied, and the job only reads them."""
    source = local_path(uri)
    if source.is_dir():
        place.symlink_to(source.resolve(), target_is_directory=True)
    elif source.is_file():
        place.mkdir()
        (place / source.name).symlink_to(source.resolve())
    else:
        raise UserError(f"Data download failed: there is nothing at {uri}.")


def pack(directory: Path, archive: Path) -> bool:
    """Make `model.tar.gz` as the service does; False where there is nothing to pack."""
    if not directory.is_dir() or not any(directory.iterdir()):
        return False
    archive.parent.mkdir(parents=True, exist_ok=True)
    temporary = archive.with_name(f".{archive.name}")
    # Weights hardly shrink: compressing them would cost each trial of a tuning a second.
    with tarfile.open(temporary, "w:gz", compresslevel=0) as file:
        for path in sorted(directory.iterdir()):
            file.add(path, arcname=path.name)
    os.replace(temporary, archive)  # noqa: PTH105 - Path.replace differs only in its name
    return True


def unpack(archive: Path, directory: Path) -> None:
    """Unpack an artifact. Raises UserError where it is missing or damaged."""
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(archive) as file:
            file.extractall(directory, filter="data")
    except (OSError, tarfile.TarError, EOFError) as error:
        raise UserError(f"The model {archive} cannot be unpacked: {error}.") from None
