import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHARED = {
    *("container", "container.hyperparameters", "container.metrics", "container.errors"),
    "container.tar",
}


def test_the_launcher_loads_no_torch_and_shares_four_modules() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "launcher").rglob("*.py")
    ]
    program = (
        f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\n"
        "print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert "torch" not in loaded
    assert {name for name in loaded if name.split(".")[0] == "container"} <= SHARED
