"""From a folder of images to predictions and away again: the same as processes and in Docker."""

import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from docker_engine import docker
from launcher_workspace import TINY, Answer, Workspace, no_account

pytest_plugins = ("launcher_fixtures",)

STEPS = (
    *("doctor", "upload", "tune", "train", "report", "deploy", "predict", "transform", "explain"),
    "delete",
)
PAGES = ("tuning.html", "report.html", "transform.csv", "explain.html")
IN_DOCKER = pytest.param("docker", marks=[pytest.mark.container, pytest.mark.timeout(900)])


@dataclass(frozen=True)
class Journey:
    """What one walk from end to end printed and left."""

    place: Workspace
    answer: Answer
    left: list[str]
    """Containers that are still there."""

    @property
    def steps(self) -> list[dict[str, Any]]:
        steps: list[dict[str, Any]] = self.answer.json["steps"]
        return steps

    @property
    def results(self) -> dict[str, Any]:
        return {step["command"].split()[1]: step["result"] for step in self.steps}


Walk = Callable[[str], Journey]


@pytest.fixture(scope="session")
def walk(
    tmp_path_factory: pytest.TempPathFactory, digits: Path, request: pytest.FixtureRequest
) -> Iterator[Walk]:
    """Makes the journey on a backend, once for all tests."""
    places = []

    @functools.cache
    def walked(on: str) -> Journey:
        image = ["--image", request.getfixturevalue("image")] if on == "docker" else []
        place = Workspace(tmp_path_factory.mktemp(f"journey-{on}"), digits)
        places.append(place)
        before = _containers(image)
        with no_account():
            # As many threads as a container takes: sums in another order would be other sums.
            os.environ.pop("OMP_NUM_THREADS", None)
            answer = place.run(
                *("run", "--on", on, *image, "--data", digits, "--set", *TINY),
                *("--range", "lr=1e-4:1e-2:log", "--jobs", "2", "--delete", "--json"),
            )
        return Journey(place, answer, sorted(set(_containers(image)) - set(before)))

    yield walked
    with no_account():
        for place in places:
            place.clean()


def _containers(image: list[str]) -> list[str]:
    if not image:
        return []
    return docker("ps", "--all", "--quiet", "--filter", f"ancestor={image[1]}").split()


@pytest.mark.parametrize("on", ["process", IN_DOCKER])
def test_one_command_goes_from_data_to_predictions_and_leaves_nothing_running(
    walk: Walk, on: str
) -> None:
    journey = walk(on)
    assert journey.answer.code == 0, journey.answer.stderr
    assert tuple(step["command"].split()[1] for step in journey.steps) == STEPS
    result = journey.results
    assert len(result["tune"]["trials"]) == 2
    assert result["train"]["status"] == "Completed"
    assert len(result["predict"]["predictions"]) == 5
    assert result["transform"]["without_answer"] == []
    assert result["transform"]["artifact"] == result["deploy"]["artifact"]
    # Batch transform and the endpoint say the same of the same images.
    assert result["explain"]["images"] == result["transform"]["images"] == 15
    assert result["explain"]["accuracy"] == result["transform"]["accuracy"]
    for page in PAGES:
        assert (journey.place.path / page).stat().st_size
    assert "endpoint kennel" in result["delete"]["deleted"]
    assert journey.left == []
    files = [path for path in (journey.place.path / ".kennel").rglob("*") if path.is_file()]
    assert {path.stat().st_uid for path in files} == {os.getuid()}


@pytest.mark.container
@pytest.mark.timeout(900)
def test_docker_comes_to_the_same_as_processes(walk: Walk) -> None:
    here, there = walk("process"), walk("docker")
    assert [step["command"] for step in there.steps] == [step["command"] for step in here.steps]
    mine, its = here.results, there.results
    tuned = [[trial["lr"] for trial in each["tune"]["trials"]] for each in (mine, its)]
    assert tuned[0] == tuned[1]
    assert its["tune"]["validation:accuracy"] == mine["tune"]["validation:accuracy"]
    for metric, value in mine["train"]["metrics"].items():
        tolerance = 0 if metric.endswith(":accuracy") else 1e-3
        assert its["train"]["metrics"][metric] == pytest.approx(value, rel=tolerance), metric
    assert its["transform"]["accuracy"] == mine["transform"]["accuracy"]
    for image, answer in mine["predict"]["predictions"].items():
        assert its["predict"]["predictions"][image][0]["label"] == answer[0]["label"]
