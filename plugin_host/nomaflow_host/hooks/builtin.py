"""Nomaflow's own behaviour, as plugins on the public hooks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from nomaflow import hookimpl
from nomaflow_host.connectors.registry import BUILTIN_TYPES
from nomaflow_host.injection.references import ImportReport, resolve_reference
from nomaflow_host.returned_value import result_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from nomaflow import StepResult
    from nomaflow.calls import ConnectorFactory, StepCall


def builtin_plugins(importer: Callable[[str], ModuleType | ImportReport]) -> dict[str, object]:
    """Return the plugins by name; each implements one hook and is called after all others.

    :param importer: imports a module, or reports why it cannot
    """

    @hookimpl(trylast=True)
    def nomaflow_resolve_callable(reference: str) -> Any:
        return resolve_reference(reference, importer=importer)

    hooks = {
        "injecting": nomaflow_contribute_injections,
        "connecting": nomaflow_contribute_connectors,
        "normalising": nomaflow_normalise_return,
        "resolving": nomaflow_resolve_callable,
    }
    return {f"builtin.{name}": SimpleNamespace(**{hook.__name__: hook}) for name, hook in hooks.items()}


@hookimpl(trylast=True)
def nomaflow_contribute_injections(call: StepCall) -> dict[str, Any]:
    """Return the objects that the call itself carries."""
    return {"connectors": call.connectors, "ctx": call.ctx, "settings": call.settings}


@hookimpl(trylast=True)
def nomaflow_contribute_connectors() -> dict[str, ConnectorFactory]:
    """Return the types ``sql`` and ``api``."""
    return dict(BUILTIN_TYPES)


@hookimpl(trylast=True)
def nomaflow_normalise_return(value: Any) -> StepResult:
    """Normalise None, int, dict and StepResult by the rules of the authoring contract."""
    return result_of(value)
