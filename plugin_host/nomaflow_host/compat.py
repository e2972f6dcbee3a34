"""Compatibility modules, so that callables of the original run unchanged: ``liberty.jobs.steps.base`` and others."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import nomaflow

if TYPE_CHECKING:
    from collections.abc import Mapping

_STEPS = ("RunContext", "StepCancelled", "StepFailed", "StepResult", "Trigger")
_MODULES: Mapping[str, tuple[str, ...]] = {
    "liberty": (),
    "liberty.connectors": ("ConnectorRegistry",),
    "liberty.jobs": (),
    "liberty.jobs.steps": (),
    "liberty.jobs.steps.base": _STEPS,
}


def install_liberty_aliases() -> None:
    """Make the original's two modules resolve to Nomaflow's names, unless the original is installed.

    Call it before plugins are imported; calling it again changes nothing.
    """
    if "liberty" not in sys.modules and importlib.util.find_spec("liberty") is None:
        for name, exported in _MODULES.items():
            _install(name, {each: getattr(nomaflow, each) for each in exported})


def _install(name: str, names: Mapping[str, Any]) -> None:
    module = ModuleType(name, f"Stands for {name} of the original; the names are nomaflow's.")
    vars(module).update(names, __all__=sorted(names))
    module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=not names)
    if not names:
        module.__path__ = []
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)
