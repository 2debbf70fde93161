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


def test_no_images_is_one_sentence(job: Job) -> None:
    with pytest.raises(UserError, match=r"There are no images: .*input/data holds no channel"):
        job.environment()


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
    text = job.failure_file.read_text()
    assert text.startswith("KeyError: 'no such layer'\n\nTraceback")


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
