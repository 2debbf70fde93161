"""Who may know whom: two packages, one per machine, and rooms with one way in."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from opt_ml import ROOT

STANDARD_LIBRARY_ONLY = ("errors", "hyperparameters", "metrics")


def imports(path: Path) -> Iterator[str]:
    """Every module, or name out of a module, that a file imports anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def importers(folder: str, *names: str) -> set[str]:
    """The files under a folder that import one of these modules, or anything inside them."""
    return {
        str(path.relative_to(ROOT))
        for path in (ROOT / folder).rglob("*.py")
        for module in imports(path)
        if any(module == name or module.startswith(f"{name}.") for name in names)
    }


def loaded_by(statement: str, tmp_path: Path) -> set[str]:
    """The modules that a fresh interpreter has loaded after a statement."""
    program = f"{statement}\nimport sys\nprint(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"SAGEMAKER_BASE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(result.stdout.split())


def test_the_container_knows_neither_boto3_nor_the_launcher() -> None:
    assert importers("container", "boto3", "botocore", "sagemaker", "launcher") == set()


def test_the_launcher_shares_only_what_needs_no_packages() -> None:
    # tar is the standard library's, or where that is too old, its own backport.
    shared = {f"container.{name}" for name in (*STANDARD_LIBRARY_ONLY, "tar")}
    for path in (ROOT / "launcher").rglob("*.py"):
        parts = [name.split(".") for name in imports(path)]
        own = {".".join(part[:2]) for part in parts if part[0] == "container"}
        assert own <= shared, path


def test_the_launcher_never_loads_torch(tmp_path: Path) -> None:
    modules = sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in (ROOT / "launcher").rglob("*.py")
        if path.name != "__main__.py"
    )
    assert modules
    loaded = loaded_by(f"import {', '.join(modules)}", tmp_path)
    assert not loaded & {"torch", "torchvision", "smdebug", "openvino"}


@pytest.mark.parametrize("name", STANDARD_LIBRARY_ONLY)
def test_what_is_shared_needs_no_packages(name: str) -> None:
    roots = {module.split(".")[0] for module in imports(ROOT / f"container/{name}.py")}
    assert roots <= sys.stdlib_module_names | {"container"}


def test_only_the_debugging_room_imports_smdebug() -> None:
    assert all(
        path.startswith("container/debugging/") for path in importers("container", "smdebug")
    )


def test_serving_imports_nothing_that_only_training_needs() -> None:
    assert importers("container/serving", "container.training", "container.debugging") == set()


def test_the_rooms_know_each_other_one_way_only() -> None:
    rooms = ("training", "debugging", "serving")
    known = {
        (source, target)
        for source in rooms
        for target in rooms
        if source != target and importers(f"container/{source}", f"container.{target}")
    }
    assert known == {("training", "debugging")}
    for path in (ROOT / "container").glob("*.py"):
        assert not any(name.split(".")[1] in rooms for name in imports(path) if "." in name), path


def test_the_server_loads_neither_torch_nor_smdebug(tmp_path: Path) -> None:
    loaded = loaded_by("import container.serving.app, container.serving.server", tmp_path)
    assert not loaded & {"torch", "torchvision", "smdebug", "sagemaker_training"}


@pytest.mark.parametrize("door", ["train", "serve", "launch.py", "build_and_push.sh"])
def test_doors_are_executable_and_start_with_a_shebang(door: str) -> None:
    path = ROOT / door
    assert os.access(path, os.X_OK)
    assert path.read_bytes().startswith(b"#!/usr/bin/env ")
    assert b"\r" not in path.read_bytes()


def test_no_file_is_a_drawer() -> None:
    drawers = ("utils", "util", "common", "helpers", "constants", "misc")
    for folder in ("container", "launcher"):
        assert not [path for path in (ROOT / folder).rglob("*.py") if path.stem in drawers]


def test_nothing_unpickles_or_evaluates() -> None:
    for folder in ("container", "launcher", "examples"):
        for path in (ROOT / folder).rglob("*.py"):
            calls = {
                node.func.id
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            }
            assert not calls & {"eval", "exec"}, path
            roots = {name.split(".")[0] for name in imports(path)}
            assert not roots & {"pickle", "dill", "joblib", "marshal"}, path
