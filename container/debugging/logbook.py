"""Where metrics go besides the log: TensorBoard's event files and MLflow, both when asked for.

Neither may take training down: what fails is said once, and nothing is logged from then on.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from container.debugging.tensorboard import EventFile
from container.progress import say


class Log(Protocol):
    """Something that takes numbers at steps."""

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Numbers under their names, at a step."""

    def close(self, directory: Path, outcome: str) -> None:
        """The job is over; its report is in the directory."""


class TensorBoardLog:
    """output/tensorboard, which SageMaker uploads where the job asks for it."""

    def __init__(self, directory: Path) -> None:
        self._file = EventFile(directory)

    def add(self, values: Mapping[str, float], step: int) -> None:
        """See Log."""
        self._file.add(values, step)

    def close(self, directory: Path, outcome: str) -> None:
        """See Log."""


class MlflowLog:
    """A run at MLFLOW_TRACKING_URI, by MLflow's own client."""

    def __init__(self, hyperparameters: Mapping[str, str]) -> None:
        import mlflow

        self._mlflow: Any = mlflow
        mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", "kennel"))
        mlflow.start_run(run_name=os.environ.get("TRAINING_JOB_NAME"))
        mlflow.log_params(dict(hyperparameters))

    def add(self, values: Mapping[str, float], step: int) -> None:
        """See Log. MLflow allows no colon in names."""
        renamed = {name.replace(":", "/"): value for name, value in values.items()}
        self._mlflow.log_metrics(renamed, step=step)

    def close(self, directory: Path, outcome: str) -> None:
        """See Log."""
        for name in ("report.html", "report.json"):
            if (directory / name).exists():
                self._mlflow.log_artifact(str(directory / name))
        self._mlflow.end_run("FAILED" if outcome == "failed" else "FINISHED")


class Logbook:
    """All logs of a job."""

    def __init__(self, tensorboard: Path | None, hyperparameters: Mapping[str, str]) -> None:
        self._logs: list[Log] = []
        if tensorboard:
            self._open("TensorBoard", lambda: TensorBoardLog(tensorboard))
        if os.environ.get("MLFLOW_TRACKING_URI"):
            self._open("MLflow", lambda: MlflowLog(hyperparameters))

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Numbers under their names, at a step."""
        self._each(lambda log: log.add(values, step))

    def close(self, directory: Path, outcome: str) -> None:
        """The job is over; its report is in the directory."""
        self._each(lambda log: log.close(directory, outcome))

    def _open(self, name: str, make: Any) -> None:
        try:
            self._logs.append(make())
        except Exception as error:
            say(f"{name} gets no metrics ({type(error).__name__}: {error}).")

    def _each(self, call: Any) -> None:
        for log in list(self._logs):
            try:
                call(log)
            except Exception as error:
                self._logs.remove(log)
                name = type(log).__name__.removesuffix("Log")
                say(f"{name} gets no more metrics ({type(error).__name__}: {error}).")
