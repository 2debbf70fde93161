"""Write the tables of docs/settings.md: `python -m docs.settings [--check]`."""

import sys
from pathlib import Path

from container import hyperparameters
from container.hyperparameters import TuningRange
from container.serving import settings
from docs.sections import Sections, main
from docs.tables import table

PAGE = Path(__file__).with_name("settings.md")


def hyperparameter_table() -> str:
    """Every hyperparameter with its default, bounds, tuning range and meaning."""
    rows = [
        (
            f"`{declared.name}`",
            f"`{declared.default}`",
            declared.check.describe(),
            _tuning_range(declared.tune),
            declared.meaning,
        )
        for declared in hyperparameters.declarations()
    ]
    return table(("name", "default", "allowed", "tuned over", "meaning"), rows)


def variable_table() -> str:
    """Every environment variable that `serve` reads."""
    rows = [
        (
            f"`{variable.name}`",
            f"`{variable.default}`" if variable.default else "",
            variable.check.describe() if variable.check else "a directory",
            variable.meaning,
        )
        for variable in settings.variables()
    ]
    return table(("name", "default", "allowed", "meaning"), rows)


def _tuning_range(tune: hyperparameters.Tuning) -> str:
    if isinstance(tune, TuningRange):
        return f"{tune.low:g} to {tune.high:g}, {tune.scaling.lower()}"
    return ", ".join(map(str, tune)) if tune else ""


SECTIONS: Sections = {"hyperparameters": hyperparameter_table, "variables": variable_table}

if __name__ == "__main__":
    main(PAGE, SECTIONS, sys.argv[1:])
