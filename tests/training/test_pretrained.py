import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from container import pretrained, torch_resnet
from container.errors import UserError


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return dict(torch_resnet.build("resnet18", 1000).state_dict())


def test_a_channel_wins_over_what_is_baked_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: dict[str, torch.Tensor]
) -> None:
    (tmp_path / "channel").mkdir()
    save_file(weights, tmp_path / "channel/resnet18.safetensors")
    monkeypatch.setenv("KENNEL_PRETRAINED_DIR", str(tmp_path / "baked"))
    found, source = pretrained.find("resnet18", tmp_path / "channel")
    assert source == "channel file resnet18.safetensors"
    assert torch.equal(found["conv1.weight"], weights["conv1.weight"])


def test_baked_weights_win_over_a_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: dict[str, torch.Tensor]
) -> None:
    save_file(weights, tmp_path / "resnet18.safetensors")
    monkeypatch.setenv("KENNEL_PRETRAINED_DIR", str(tmp_path))
    _, source = pretrained.find("resnet18", None)
    assert source.startswith("weights baked into the image")


def test_a_state_dict_of_torch_with_wrapped_names_is_read(
    tmp_path: Path, weights: dict[str, torch.Tensor]
) -> None:
    wrapped = {f"module.{name}": tensor for name, tensor in weights.items()}
    torch.save({"state_dict": wrapped}, tmp_path / "mine.pth")
    found, _ = pretrained.find("resnet18", tmp_path)
    assert found.keys() == weights.keys()


def test_of_several_files_the_one_named_for_the_architecture_counts(
    tmp_path: Path, weights: dict[str, torch.Tensor]
) -> None:
    save_file(weights, tmp_path / "resnet18.safetensors")
    save_file(weights, tmp_path / "resnet50.safetensors")
    assert pretrained.find("resnet18", tmp_path)[1] == "channel file resnet18.safetensors"


def test_an_empty_channel_says_what_it_should_hold(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"must hold one \.safetensors or \.pth file for resnet18"):
        pretrained.find("resnet18", tmp_path)


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("code ran",))


def test_a_pickle_that_would_run_code_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "resnet18.pth").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(UserError, match=r"resnet18\.pth"):
        pretrained.find("resnet18", tmp_path)
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "content",
    [{0: torch.ones(2)}, {"state_dict": torch.ones(2)}, {"conv1.weight": [1.0]}, torch.ones(2)],
    ids=["a number for a name", "a tensor for a state", "a list for a tensor", "a tensor"],
)
def test_what_is_no_state_dict_is_refused_in_a_sentence(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "resnet18.pth")
    with pytest.raises(UserError, match=r"resnet18.pth are not a state dict"):
        pretrained.find("resnet18", tmp_path)


def test_without_a_network_the_sentence_names_every_way(monkeypatch: pytest.MonkeyPatch) -> None:
    # A proxy that nobody serves: the download is tried for real, and fails at once.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("TORCH_HOME", "/nonexistent")
    with pytest.raises(UserError) as raised:
        pretrained.download("resnet18")
    for way in (
        "channel named 'pretrained'",
        "PRETRAINED=resnet18",
        "network",
        "weights=none with trainable=all",
    ):
        assert way in str(raised.value)


def test_baking_refuses_an_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="PRETRAINED names 'resnet19'"):
        pretrained.bake(tmp_path, ["resnet19"])
