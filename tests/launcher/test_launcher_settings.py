from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from container.errors import UserError
from launcher import settings
from launcher.memory import Memory


def write_toml(directory: Path, text: str) -> None:
    (directory / "kennel.toml").write_text(text)


def test_flags_win_over_environment_over_file_over_memory_over_defaults() -> None:
    flags: dict[str, object] = {"project": "flag"}
    environment = {"KENNEL_PROJECT": "variable", "KENNEL_BUCKET": "variable"}
    file = {"project": "file", "bucket": "file", "role": "file"}
    remembered = {"project": "memory", "bucket": "memory", "role": "memory", "image": "memory"}
    resolved = settings.resolve(flags, environment, file, remembered)
    assert resolved.project == "flag"
    assert resolved.bucket == "variable"
    assert resolved.role == "file"
    assert resolved.image == "memory"
    assert resolved.prefix == "kennel"


def test_numbers_are_typed_and_bounded_and_the_message_says_where_they_were_given() -> None:
    assert settings.resolve({}, {"KENNEL_MAX_RUN": "90"}, {}, {}).max_run == 90
    with pytest.raises(
        UserError, match=r"^KENNEL_MAX_RUN, the environment's max-run must be at least 60"
    ):
        settings.resolve({}, {"KENNEL_MAX_RUN": "5"}, {}, {})
    with pytest.raises(UserError, match=r"^The option on must be one of .*did you mean 'docker'"):
        settings.resolve({"on": "doker"}, {}, {}, {})


def test_awss_own_variables_count() -> None:
    assert settings.resolve({}, {"AWS_REGION": "eu-west-1"}, {}, {}).region == "eu-west-1"


def test_the_file_is_read_with_hyphens_and_a_table_of_hyperparameters(tmp_path: Path) -> None:
    write_toml(tmp_path, 'instance-type = "ml.g5.xlarge"\n[hyperparameters]\nbatch-size = 16\n')
    resolved = settings.resolve({}, {}, settings.read_file(tmp_path), {})
    assert resolved.instance_type == "ml.g5.xlarge"
    assert resolved.hyperparameters == {"batch-size": 16}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("regio = 'x'", "sets 'regio', which is no setting; did you mean 'region'?"),
        ("region", "cannot be read"),
        ("[hyperparameters]\nepoch = 1", "no hyperparameter 'epoch'; did you mean 'epochs'?"),
        ("project = '-x-'", "project must be at most 32 letters"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    write_toml(tmp_path, text)
    with pytest.raises(UserError, match=sentence.replace("?", r"\?")):
        settings.resolve({}, {}, settings.read_file(tmp_path), {})


def test_memory_keeps_names_for_each_backend_and_forgets_none(tmp_path: Path) -> None:
    memory = Memory.of(tmp_path)
    memory.remember("process", training_job="a", endpoint="e")
    memory.remember("sagemaker", training_job="b")
    memory.remember("process", endpoint=None)
    memory.choose(on="docker")
    again = Memory.of(tmp_path)
    assert again.name("process", "training-job") == "a"
    assert again.name("sagemaker", "training-job") == "b"
    assert again.name("process", "endpoint") is None
    assert again.choices == {"on": "docker"}


def test_a_damaged_memory_is_one_sentence(tmp_path: Path) -> None:
    memory = Memory.of(tmp_path)
    memory.path.parent.mkdir()
    memory.path.write_text("{")
    with pytest.raises(
        UserError, match=r"state\.json cannot be read.* Remove it to start afresh\."
    ):
        memory.name("process", "endpoint")


def test_commands_at_the_same_time_lose_nothing_of_each_other(tmp_path: Path) -> None:
    names = [f"job{number}" for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: Memory.of(tmp_path).remember("process", **{name: name}), names))
    assert [Memory.of(tmp_path).name("process", name) for name in names] == names
