"""NF104 and NF105: exceptions that end in a handler."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from nomaflow_cli.lint.findings import Sighting, sighting
from nomaflow_cli.lint.scopes import FunctionNode, dotted, own_nodes

__all__ = ["check_swallowing"]

_EVERYTHING = frozenset({"BaseException", "builtins.BaseException"})
_EXCEPTION = frozenset({"Exception", "builtins.Exception"})
_LOGGING = frozenset({"debug", "info", "warning", "warn", "error", "exception", "critical", "log"})
_TIDYING = frozenset({"rollback", "close", "aclose", "sleep"})
_QUIET_FUNCTIONS = frozenset({"print", "traceback.print_exc", "warnings.warn"})
_ENDING_FUNCTIONS = frozenset({"sys.exit", "os._exit", "os.abort", "exit", "quit"})


def check_swallowing(function: FunctionNode, imports: Mapping[str, str], *, is_callable: bool) -> Iterator[Sighting]:
    """Yield the handlers of a function that hide failures or cancellations.

    :param is_callable: True for the callable itself, whose return means success; a function that it uses may
        return a value in place of an exception
    """
    check = _Check(function=function, imports=imports, is_callable=is_callable)
    for node in own_nodes(function.body):
        if isinstance(node, ast.Try | ast.TryStar):
            yield from check.handlers(node)
            yield from check.final_return(node)
        elif isinstance(node, ast.With | ast.AsyncWith):
            yield from check.suppressions(node)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Check:
    function: FunctionNode
    imports: Mapping[str, str]
    is_callable: bool

    def handlers(self, block: ast.Try | ast.TryStar) -> Iterator[Sighting]:
        cancellation_passed = False
        for handler in block.handlers:
            caught = self._caught(handler.type)
            leaves = self._leaves(handler)
            cancelled = next((name for name in caught if self._is_cancellation(name)), "")
            lines = {"last_line": (handler.type.end_lineno if handler.type else None) or handler.lineno}
            if cancelled and not (cancellation_passed and cancelled in _EVERYTHING):
                if leaves:
                    cancellation_passed = True
                elif not (self._awaits_cancelled(block.body) or self._kept_for_later(handler)):
                    what = "a bare except" if handler.type is None else f"except {cancelled.rpartition('.')[2]}"
                    message = f"{what} in {self.function.name!r} swallows cancellations: nothing is raised again"
                    yield sighting("NF105", handler, message, **lines)
            elif self._is_broad(caught) and not leaves and self._hides(block, handler):
                message = f"{self.function.name!r} catches every exception and goes on as if nothing had happened"
                yield sighting("NF104", handler, message, **lines)

    def final_return(self, block: ast.Try | ast.TryStar) -> Iterator[Sighting]:
        for node in own_nodes(block.finalbody):
            if isinstance(node, ast.Return):
                message = f"a return in a finally of {self.function.name!r} swallows whatever was raised"
                yield sighting("NF105", node, f"{message}, cancellations included")

    def suppressions(self, block: ast.With | ast.AsyncWith) -> Iterator[Sighting]:
        for item in block.items:
            call = item.context_expr
            if not isinstance(call, ast.Call) or dotted(call.func, self.imports) != "contextlib.suppress":
                continue
            caught = [name for each in call.args for name in self._caught(each)]
            cancelled = next((name for name in caught if self._is_cancellation(name)), "")
            if cancelled and not self._awaits_cancelled(block.body):
                message = f"suppress({cancelled.rpartition('.')[2]}) in {self.function.name!r} swallows cancellations"
                yield sighting("NF105", call, message)
            elif not cancelled and self._is_broad(caught):
                yield sighting("NF104", call, f"suppress(Exception) in {self.function.name!r} hides every failure")

    def _caught(self, node: ast.expr | None) -> list[str]:
        if node is None:
            return ["BaseException"]
        return [dotted(each, self.imports) for each in (node.elts if isinstance(node, ast.Tuple) else [node])]

    def _is_cancellation(self, name: str) -> bool:
        last = name.rpartition(".")[2]
        if name.startswith("concurrent."):  # a future's, which is an Exception of its own
            return False
        return name in _EVERYTHING or last in ("CancelledError", "StepCancelled")

    def _is_broad(self, caught: Sequence[str]) -> bool:
        return any(name in _EXCEPTION or name in _EVERYTHING for name in caught)

    def _leaves(self, handler: ast.ExceptHandler) -> bool:
        """Return True if a handler raises, ends the process, or deliberately takes back the cancellation."""
        for node in own_nodes(handler.body):
            if isinstance(node, ast.Raise):
                return True
            if isinstance(node, ast.Call):
                attribute = node.func.attr if isinstance(node.func, ast.Attribute) else ""
                if dotted(node.func, self.imports) in _ENDING_FUNCTIONS or attribute == "uncancel":
                    return True
        return False

    def _awaits_cancelled(self, body: Sequence[ast.stmt]) -> bool:
        """Return True for the usual end of a function's own task: cancel it, await it, ignore its CancelledError."""
        only_awaits = all(isinstance(each, ast.Expr) and isinstance(each.value, ast.Await) for each in body)
        return only_awaits and any(
            isinstance(node, ast.Attribute) and node.attr == "cancel" for node in own_nodes(self.function.body)
        )

    def _kept_for_later(self, handler: ast.ExceptHandler) -> bool:
        """Return True if the exception is stored and the function raises afterwards."""
        return self._uses_exception(handler) and self._raises_after(handler)

    def _uses_exception(self, handler: ast.ExceptHandler) -> bool:
        return any(
            isinstance(node, ast.Name) and node.id == handler.name and not isinstance(node.ctx, ast.Store)
            for statement in handler.body
            if not self._is_quiet(statement)
            for node in ast.walk(statement)
        )

    def _raises_after(self, handler: ast.ExceptHandler) -> bool:
        last = handler.end_lineno or handler.lineno
        return any(isinstance(node, ast.Raise) and node.lineno > last for node in own_nodes(self.function.body))

    def _hides(self, block: ast.Try | ast.TryStar, handler: ast.ExceptHandler) -> bool:
        """Return True if the handler keeps no trace of the failure, and no later code can know of it."""
        if not all(self._is_quiet(each) for each in handler.body):
            return False
        returns = any(isinstance(each, ast.Return) for each in handler.body)
        if returns:
            return self.is_callable
        succeeds_early = any(
            isinstance(node, ast.Return | ast.Break) for node in own_nodes([*block.body, *block.orelse])
        )
        return not (succeeds_early and self._raises_after(handler))

    def _is_quiet(self, statement: ast.stmt) -> bool:
        """Return True for a statement that leaves a trace only in the log, if any."""
        match statement:
            case ast.Pass() | ast.Continue() | ast.Break():
                return True
            case ast.Return():  # what it awaits is another way to the same end
                return not any(isinstance(node, ast.Await) for node in ast.walk(statement))
            case ast.Expr(value=ast.Constant()):
                return True
            case ast.Expr(value=ast.Await(value=call) | call):
                return isinstance(call, ast.Call) and self._is_quiet_call(call)
        return False

    def _is_quiet_call(self, call: ast.Call) -> bool:
        if isinstance(call.func, ast.Attribute) and call.func.attr in _LOGGING | _TIDYING:
            return True
        return dotted(call.func, self.imports) in _QUIET_FUNCTIONS
