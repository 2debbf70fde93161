import errno
import os
import sys
from pathlib import Path

import pytest
from opt_ml import OptMl, write_images

from container.errors import UserError
from container.job import FAILURE_REASON_LENGTH, Job


@pytest.fixture
def job(opt_ml: OptMl, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(opt_ml.base))
    return Job.from_environment()


def test_without_configuration_files_each_directory_is_a_channel(job: Job, opt_ml: OptMl) -> None:
    write_images(opt_ml.channel("train"))
    write_images(opt_ml.channel("test"))
    environment = job.environment()
    assert environment.channels == {
        "test": opt_ml.channel("test"),
        "train": opt_ml.channel("train"),
    }
    assert environment.hosts == ("algo-1",)
    assert job.read_hyperparameters() == {}


def test_the_services_files_name_channels_and_hosts(job: Job, opt_ml: OptMl) -> None:
    write_images(opt_ml.channel("training"))
    write_images(opt_ml.channel("left-over"))
    opt_ml.write_config("hyperparameters.json", {"lr": "0.1"})
    opt_ml.write_config("inputdataconfig.json", {"training": {"TrainingInputMode": "File"}})
    opt_ml.write_config(
        "resourceconfig.json",
        {
            "current_host": "algo-2",
            "hosts": ["algo-1", "algo-2"],
            "network_interface_name": "ethwe",
            "current_instance_type": "ml.g4dn.xlarge",
            "current_group_name": "homogeneousCluster",
            "instance_groups": [],
            "topology": None,
        },
    )
    environment = job.environment()
    assert list(environment.channels) == ["training"]
    assert environment.current_host == "algo-2"
    assert environment.hosts == ("algo-1", "algo-2")
    assert environment.network_interface == "ethwe"
    assert job.read_hyperparameters() == {"lr": "0.1"}


@pytest.mark.parametrize("distribution", ["ShardedByS3Key", "FullyReplicated"])
@pytest.mark.parametrize("hosts", [["algo-1"], ["algo-1", "algo-2"]])
def test_a_channel_is_sharded_where_several_hosts_get_other_files_each(
    job: Job, opt_ml: OptMl, distribution: str, hosts: list[str]
) -> None:
    write_images(opt_ml.channel("train"))
    opt_ml.write_config("inputdataconfig.json", {"train": {"S3DistributionType": distribution}})
    opt_ml.write_config(
        "resourceconfig.json",
        {"current_host": "algo-1", "hosts": hosts, "network_interface_name": "eth0"},
    )
    several = distribution == "ShardedByS3Key" and len(hosts) > 1
    assert job.environment().sharded == (frozenset({"train"}) if several else frozenset())


def test_no_images_is_one_sentence_that_says_where_they_belong(job: Job, opt_ml: OptMl) -> None:
    with pytest.raises(UserError) as refused:
        job.environment()
    data = opt_ml.base / "input/data"
    assert str(refused.value) == (
        f"There are no images: {data} holds no channel. Mount or copy a folder of images per "
        f"class to {data}/train."
    )


def test_alone_this_host_is_the_first(job: Job, opt_ml: OptMl) -> None:
    write_images(opt_ml.channel("train"))
    environment = job.environment()
    assert (environment.current_host, environment.sharded) == ("algo-1", frozenset())


def test_a_directory_that_cannot_be_written_to_is_named(
    job: Job, opt_ml: OptMl, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may write anywhere, so the toolkit's own words are put in its mouth.
    class Finder:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name.startswith("sagemaker_training"):
                assert os.environ["SAGEMAKER_BASE_DIR"] == str(opt_ml.base)
                raise OSError(errno.EROFS, "Read-only file system")

    for name in [name for name in sys.modules if name.startswith("sagemaker_training")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", "elsewhere")
    with pytest.raises(UserError) as refused:
        job.environment()
    assert str(refused.value) == f"{opt_ml.base} cannot be written to: Read-only file system."


def test_the_base_is_opt_ml_unless_the_environment_names_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def is_dir(path: Path) -> bool:
        asked.append(str(path))
        return False

    monkeypatch.delenv("SAGEMAKER_BASE_DIR", raising=False)
    monkeypatch.setattr(Path, "is_dir", is_dir)
    with pytest.raises(UserError) as refused:
        Job.from_environment()
    assert asked == ["/opt/ml"]
    assert str(refused.value) == (
        "There is no directory /opt/ml. Mount your images at /opt/ml/input/data/train, or set "
        "SAGEMAKER_BASE_DIR to a directory that holds them at input/data/train."
    )


def test_a_missing_directory_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="set SAGEMAKER_BASE_DIR"):
        Job.from_environment()


@pytest.mark.parametrize("content", ["{", "[]", '"text"', "\ufeff{}"])
def test_a_broken_configuration_file_is_named(job: Job, opt_ml: OptMl, content: str) -> None:
    opt_ml.write_config("hyperparameters.json", content)
    with pytest.raises(UserError, match=r"hyperparameters\.json"):
        job.read_hyperparameters()


def test_failure_starts_with_the_sentence_and_ends_with_the_traceback(job: Job) -> None:
    # "SageMaker returns the first 1024 characters from this file as FailureReason"
    try:
        raise KeyError("no such layer")
    except KeyError as error:
        job.fail(error)
    first, _, rest = job.failure_file.read_text().partition("\n\n")
    assert first == "KeyError: 'no such layer'"
    assert rest.startswith("Traceback (most recent call last):\n  File ")
    assert rest.endswith("\nKeyError: 'no such layer'\n")


def test_failing_makes_the_folders_that_are_missing_and_keeps_those_that_are_there(
    job: Job, opt_ml: OptMl
) -> None:
    elsewhere = Job(opt_ml.base / "not/yet/there")
    for _ in range(2):
        elsewhere.fail(UserError("größer"))
    assert elsewhere.failure_file.read_bytes() == "größer".encode()


def test_what_is_no_object_is_told_by_its_kind(job: Job, opt_ml: OptMl) -> None:
    opt_ml.write_config("hyperparameters.json", "[]")
    with pytest.raises(UserError) as refused:
        job.read_hyperparameters()
    path = job.config_dir / "hyperparameters.json"
    assert str(refused.value) == f"{path} must hold a JSON object, not list."


def test_a_users_error_is_its_sentence_alone_and_fits(job: Job) -> None:
    job.fail(UserError("x" * 2000))
    assert job.failure_file.read_text() == "x" * FAILURE_REASON_LENGTH


def test_all_paths_lie_under_the_base(job: Job, opt_ml: OptMl) -> None:
    paths = [job.config_dir, job.data_dir, job.model_dir, job.output_data_dir, job.checkpoint_dir]
    assert [str(path.relative_to(opt_ml.base)) for path in paths] == [
        "input/config",
        "input/data",
        "model",
        "output/data",
        "checkpoints",
    ]
