"""docs/launcher.md says what is so."""

import json
import re
import shlex
from pathlib import Path

import pytest
from launcher_workspace import Workspace

from docs import permissions
from launcher import cli, recipes, settings

pytest_plugins = ("launcher_fixtures",)

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "launcher.md").read_text(encoding="utf-8")
COSTS = (DOCS / "launcher-costs.md").read_text(encoding="utf-8")
ALL = "\n".join(page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("launcher*.md")))


def blocks(language: str, text: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


COMMANDS = [
    line
    for block in blocks("bash", ALL)
    for line in block.splitlines()
    if line.startswith("./launch.py ")
]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_line_is_one_that_there_is(line: str) -> None:
    options, unknown = cli.parser().parse_known_args(shlex.split(line)[1:])
    assert unknown == []
    assert options.command in cli.COMMANDS


def test_every_command_setting_and_recipe_is_explained() -> None:
    for name in cli.COMMANDS:
        assert f"`{name}`" in TEXT, name
    for declared in settings.declarations():
        assert f"| `--{declared.flag}` |" in TEXT, declared.flag
        assert declared.meaning in TEXT
    for recipe in recipes.RECIPES:
        assert f"| `{recipe.name}` |" in TEXT
        for text in (*recipe.ranges, *recipe.fixed):
            assert f"`{text}`" in TEXT


def test_every_option_that_is_named_is_one_that_there_is() -> None:
    parsers = cli._commands(cli.parser())
    known = {
        text
        for parser in parsers.values()
        for action in parser._actions
        for text in action.option_strings
    }
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", ALL)) <= known


def test_the_policies_are_those_that_doctor_prints() -> None:
    text = permissions.PAGE.read_text(encoding="utf-8")
    assert permissions.generate(text) == text, "run make docs"


def test_the_costs_that_are_shown_are_those_of_the_dry_run(workspace: Workspace) -> None:
    (line,) = (line for line in COMMANDS if line.endswith("--dry-run"))
    (shown,) = (json.loads(block) for block in blocks("json", COSTS))
    (workspace.path / "digits").symlink_to(workspace.data)
    answer = workspace.run(*shlex.split(line)[1:])
    assert answer.code == 0, answer.stderr
    assert answer.json["paid_by_the_hour"] == shown


def test_the_example_of_kennel_toml_is_read(tmp_path: Path) -> None:
    (text,) = blocks("toml", TEXT)
    (tmp_path / "kennel.toml").write_text(text)
    read = settings.resolve({}, {}, settings.read_file(tmp_path), {})
    assert read.on == "sagemaker"
    assert read.hyperparameters["arch"] == "resnet50"


def test_every_test_that_is_named_is_there() -> None:
    tests = Path(__file__).parent
    there = "".join(path.read_text(encoding="utf-8") for path in tests.glob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", ALL)
    assert len(named) > 10
    for name in named:
        assert f"def {name}(" in there, name
