"""A page about what a host offers: its callables, and the modules that do not import."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group
from rich.text import Text

from nomaflow.client.values import CallablesView, CallableView, ModuleView, ParameterView
from nomaflow_telemetry.visible_text import printable


def callables_page(offered: CallablesView) -> Group:
    """Return each callable with its signature, what it does and the jobs that use it; first what does not import."""
    broken = [module for module in offered.modules if module.error]
    lines = [*map(_module, broken), *(line for one in offered.callables for line in _callable(one))]
    nothing = f"host {printable(offered.host)!r} offers no callable: its plugin folder has no public function"
    return Group(*(lines or [Text(nothing)]))


def _module(module: ModuleView) -> Text:
    text = Text.assemble(
        ("✘ ", "red"), (printable(module.name), "bold"), f" does not import: {printable(module.error)}"
    )
    if module.file:
        text.append(f"\n  in {printable(module.file)}{f':{module.line}' if module.line else ''}", style="dim")
    return text


def _callable(one: CallableView) -> Iterator[Text]:
    given = [_parameter(each) for each in one.parameters if not each.injected]
    signature = ", ".join([*given, *(["**"] if one.accepts_any_keyword else [])])
    sign = ("✘ ", "red") if one.error else ""
    kind = ("  async", "dim") if one.kind == "async" else ""
    yield Text.assemble(sign, (printable(one.reference), "bold"), f"({signature})", kind)
    if one.error:
        yield Text(f"    cannot be called: {printable(one.error)}", style="red")
    if one.doc:
        yield Text(f"    {printable(one.doc)}")
    used = ", ".join(map(printable, one.job_ids))
    yield Text(f"    used by {used}" if used else "    no job uses it", style="dim")


def _parameter(one: ParameterView) -> str:
    """Return a parameter as Python writes it."""
    annotation = f": {printable(one.annotation)}" if one.annotation else ""
    if one.required or not one.default_text:
        return f"{printable(one.name)}{annotation}"
    return f"{printable(one.name)}{annotation}{' = ' if annotation else '='}{printable(one.default_text)}"
