"""NF104 and NF105: exceptions and cancellations that end in a handler."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from nomaflow_cli.lint.module_source import Sighting
from nomaflow_cli.lint.scopes import Scope, own_nodes

_EVERYTHING = frozenset({"BaseException", "builtins.BaseException"})
_BROAD = _EVERYTHING | {"Exception", "builtins.Exception"}
_QUIET_METHODS = frozenset(
    {
        "debug", "info", "warning", "warn", "error", "exception", "critical", "log",
        "rollback", "close", "aclose", "sleep",
    }
)  # fmt: skip
_QUIET_FUNCTIONS = frozenset({"print", "traceback.print_exc", "warnings.warn"})
_ENDING_FUNCTIONS = frozenset({"sys.exit", "os._exit", "os.abort", "exit", "quit"})

_Try = ast.Try | ast.TryStar


def check_swallowing(scope: Scope) -> Iterator[Sighting]:
    """Yield the handlers of a function that hide failures or cancellations.

    A return in a handler of the callable itself means success; a function that it uses may return a value in place of
    an exception.
    """
    for node in scope.nodes:
        if isinstance(node, _Try):
            yield from _handlers(scope, node)
            for each in _exits(node.finalbody):
                message = f"a {type(each).__name__.lower()} in a finally of {scope.name} swallows whatever was raised"
                yield Sighting("NF105", each, f"{message}, cancellations included")
        elif isinstance(node, ast.With | ast.AsyncWith):
            yield from _suppressions(scope, node)


def _exits(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that end a block early, without those that end or continue a loop inside it."""
    nodes = list(own_nodes(body))
    loops = [each for each in nodes if isinstance(each, ast.For | ast.AsyncFor | ast.While)]
    inside = {id(each) for loop in loops for each in own_nodes(loop.body)}
    for each in nodes:
        if isinstance(each, ast.Return) or (isinstance(each, ast.Break | ast.Continue) and id(each) not in inside):
            yield each


def _handlers(scope: Scope, block: _Try) -> Iterator[Sighting]:
    cancellation_passed = False
    for handler in block.handlers:
        caught = _caught(scope, handler.type)
        leaves = _leaves(scope, handler)
        cancelled = next(filter(_is_cancellation, caught), "")
        if cancelled and not (cancellation_passed and cancelled in _EVERYTHING):
            if leaves:
                cancellation_passed = True
            elif not _awaits_cancelled(scope, block.body) and not (
                _uses_exception(scope, handler) and _raises_after(scope, handler)
            ):
                what = "a bare except" if handler.type is None else f"except {cancelled.rpartition('.')[2]}"
                message = f"{what} in {scope.name} swallows cancellations: nothing is raised again"
                yield Sighting("NF105", handler, message)
        elif not _BROAD.isdisjoint(caught) and not leaves and _hides(scope, block, handler):
            message = f"{scope.name} catches every exception and goes on as if nothing had happened"
            yield Sighting("NF104", handler, message)


def _suppressions(scope: Scope, block: ast.With | ast.AsyncWith) -> Iterator[Sighting]:
    for item in block.items:
        call = item.context_expr
        if not isinstance(call, ast.Call) or scope.dotted(call.func) != "contextlib.suppress":
            continue
        caught = [name for each in call.args for name in _caught(scope, each)]
        cancelled = next(filter(_is_cancellation, caught), "")
        if cancelled and not _awaits_cancelled(scope, block.body):
            message = f"suppress({cancelled.rpartition('.')[2]}) in {scope.name} swallows cancellations"
            yield Sighting("NF105", call, message)
        elif not cancelled and not _BROAD.isdisjoint(caught):
            yield Sighting("NF104", call, f"suppress(Exception) in {scope.name} hides every failure")


def _caught(scope: Scope, node: ast.expr | None) -> list[str]:
    if node is None:
        return ["BaseException"]
    return [scope.dotted(each) for each in (node.elts if isinstance(node, ast.Tuple) else [node])]


def _is_cancellation(name: str) -> bool:
    if name.startswith("concurrent."):  # a future's, which is an Exception of its own
        return False
    return name in _EVERYTHING or name.rpartition(".")[2] in ("CancelledError", "StepCancelled")


def _leaves(scope: Scope, handler: ast.ExceptHandler) -> bool:
    """Return True if a handler raises, ends the process, or deliberately takes back the cancellation."""
    for node in own_nodes(handler.body):
        if isinstance(node, ast.Raise):
            return True
        if isinstance(node, ast.Call):
            attribute = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            if scope.dotted(node.func) in _ENDING_FUNCTIONS or attribute == "uncancel":
                return True
    return False


def _awaits_cancelled(scope: Scope, body: Sequence[ast.stmt]) -> bool:
    """Return True for the usual end of a function's own task: cancel it, await it, ignore its CancelledError."""
    only_awaits = all(isinstance(each, ast.Expr) and isinstance(each.value, ast.Await) for each in body)
    return only_awaits and any(isinstance(node, ast.Attribute) and node.attr == "cancel" for node in scope.nodes)


def _uses_exception(scope: Scope, handler: ast.ExceptHandler) -> bool:
    return any(
        isinstance(node, ast.Name) and node.id == handler.name and not isinstance(node.ctx, ast.Store)
        for statement in handler.body
        if not _is_quiet(scope, statement)
        for node in ast.walk(statement)
    )


def _raises_after(scope: Scope, handler: ast.ExceptHandler) -> bool:
    last = handler.end_lineno or handler.lineno
    return any(isinstance(node, ast.Raise) and node.lineno > last for node in scope.nodes)


def _hides(scope: Scope, block: _Try, handler: ast.ExceptHandler) -> bool:
    """Return True if the handler keeps no trace of the failure, and no later code can know of it."""
    if not all(_is_quiet(scope, each) for each in handler.body):
        return False
    if any(isinstance(each, ast.Return) for each in handler.body):
        return scope.is_callable
    succeeds_early = any(isinstance(node, ast.Return | ast.Break) for node in own_nodes([*block.body, *block.orelse]))
    return not (succeeds_early and _raises_after(scope, handler))


def _is_quiet(scope: Scope, statement: ast.stmt) -> bool:
    """Return True for a statement that leaves a trace only in the log, if any."""
    match statement:
        case ast.Pass() | ast.Continue() | ast.Break() | ast.Expr(value=ast.Constant()):
            return True
        case ast.Return():  # what it awaits is another way to the same end
            return not any(isinstance(node, ast.Await) for node in ast.walk(statement))
        case ast.Expr(value=ast.Await(value=ast.Call(func=called)) | ast.Call(func=called)):
            method = called.attr if isinstance(called, ast.Attribute) else ""
            return method in _QUIET_METHODS or scope.dotted(called) in _QUIET_FUNCTIONS
    return False
