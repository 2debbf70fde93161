from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container.errors import UserError
from launcher import api, names
from launcher.api import Call

MODEL: dict[str, Any] = {
    "ModelName": "kennel-model",
    "PrimaryContainer": {"Image": "kennel:latest", "ModelDataUrl": "s3://bucket/model.tar.gz"},
    "ExecutionRoleArn": "arn:aws:iam::123456789012:role/kennel",
}


def changed(**members: Any) -> Call:
    return Call("sagemaker", "CreateModel", {**MODEL, **members})


def test_a_right_request_passes() -> None:
    api.check(changed())


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"ModelName": 3}, "Invalid type for parameter ModelName"),
        ({"Modelname": "x"}, "Unknown parameter"),
        ({"ModelName": "under_score"}, "CreateModel.ModelName must match"),
        ({"ModelName": "x" * 64}, "CreateModel.ModelName may have 63 characters, got 64"),
        ({"ExecutionRoleArn": "arn:aws:iam::1:role/kennel"}, "ExecutionRoleArn must match"),
        (
            {"PrimaryContainer": {"Image": "i", "Mode": "Multimodel"}},
            "PrimaryContainer.Mode cannot be 'Multimodel'; did you mean 'MultiModel'?",
        ),
        (
            {"Containers": [{"Image": "i"}] * 16},
            "CreateModel.Containers may hold 15 entries, got 16",
        ),
        (
            {"PrimaryContainer": {"Image": "i", "Environment": {"X": "y" * 1025}}},
            "Environment.X may have 1024 characters",
        ),
    ],
)
def test_what_the_service_would_refuse_is_refused_here(
    members: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError) as refusal:
        api.check(changed(**members))
    assert sentence in str(refusal.value)


def test_files_take_the_place_of_s3_on_this_machine_only() -> None:
    call = changed(PrimaryContainer={"Image": "i", "ModelDataUrl": "file:///tmp/model.tar.gz"})
    api.check(call, local=True)
    with pytest.raises(UserError, match="ModelDataUrl must match"):
        api.check(call)


def test_every_pattern_of_the_services_in_use_is_read_or_left_to_the_service() -> None:
    for service in ("sagemaker", "sagemaker-runtime", "application-autoscaling", "lambda", "iam"):
        model = api.service_model(service)
        for name in model.shape_names:
            if pattern := model.shape_for(name).metadata.get("pattern"):
                assert api._matches(pattern, "x") in (True, False)


@given(
    st.from_regex(r"[a-zA-Z0-9](-?[a-zA-Z0-9]){0,15}", fullmatch=True),
    st.sampled_from(["train", "model", "transform"]),
)
def test_unique_names_are_names_that_sagemaker_takes(project: str, kind: str) -> None:
    name = names.unique(names.check_project(project), kind)
    api.check(changed(ModelName=name))
    assert name != names.unique(project, kind)


@given(st.from_regex(r"[a-zA-Z0-9](-?[a-zA-Z0-9]){0,15}", fullmatch=True))
def test_tuning_names_leave_room_for_their_trials(project: str) -> None:
    name = names.unique(project, "tuning")
    shape = api.service_model("sagemaker").shape_for("HyperParameterTuningJobName")
    assert len(name) <= 32
    assert api._matches(shape.metadata["pattern"], name)
