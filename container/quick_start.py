"""Import torchvision without torch's compiler, which takes longer to import than torch itself.

torchvision and torch's optimizers import `torch._dynamo` for functions that do nothing where
nothing is compiled, and nothing is compiled here. Whoever does ask for the compiler gets it.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo"


def import_torchvision() -> None:
    """Import torchvision, with the compiler deferred until something of it has an effect."""
    import torch

    if "torchvision" in sys.modules or COMPILER in sys.modules:
        return
    sys.modules[COMPILER] = torch._dynamo = _Deferred(COMPILER)
    # All that torchvision takes from it when it is imported.
    utilities = ModuleType(f"{COMPILER}.utils")
    vars(utilities)["is_compile_supported"] = lambda _device: False
    sys.modules[utilities.__name__] = utilities
    try:
        import torchvision  # noqa: F401
    finally:
        del sys.modules[utilities.__name__]
    sys.meta_path.insert(0, _Submodules())


class _Deferred(ModuleType):
    """Stands in for the compiler: the two functions that optimizers call, and a way to the rest."""

    __path__: list[str] = []  # noqa: RUF012 - as a package has it

    def disable(self, function: Any = None, *_: object, **__: object) -> Any:
        """The function itself, as nothing compiles it; without one, a decorator."""
        return function or (lambda decorated: decorated)

    def graph_break(self, *_: object, **__: object) -> None:
        """There is no graph to break."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(_load(), name)


class _Submodules(MetaPathFinder, Loader):
    """Finds `torch._dynamo.config` and the like by importing the real compiler first."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(f"{COMPILER}."):
            return None
        sys.meta_path.remove(self)
        _load()
        importlib.import_module(fullname)
        return ModuleSpec(fullname, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return sys.modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        """It has been executed."""


def _load() -> ModuleType:
    if isinstance(sys.modules.get(COMPILER), _Deferred):
        del sys.modules[COMPILER]
    return importlib.import_module(COMPILER)
