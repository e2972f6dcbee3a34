"""NF101: signatures that a step cannot call. NF108 and NF109: calls that block, or are never awaited."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from nomaflow_cli.lint.module_source import Sighting
from nomaflow_cli.lint.scopes import Scope, own_nodes

_HTTP = ("get", "post", "put", "patch", "delete", "head", "options", "request", "stream")
_BLOCKING = frozenset(
    {
        "time.sleep", "os.system", "os.wait", "os.waitpid", "input", "socket.create_connection",
        "subprocess.run", "subprocess.call", "subprocess.check_call", "subprocess.check_output",
        "subprocess.getoutput", "subprocess.getstatusoutput", "urllib.request.urlopen", "urllib.request.urlretrieve",
        *(f"requests.{name}" for name in _HTTP), *(f"httpx.{name}" for name in _HTTP),
    }
)  # fmt: skip
_CONNECTOR_METHODS: Mapping[str, frozenset[str]] = {
    "sql": frozenset({"fetch_all", "fetch_one", "fetch_value", "execute"}),
    "api": frozenset({"request", "call"}),
}
_ASYNCIO = frozenset({"asyncio.sleep", "asyncio.wait_for", "asyncio.to_thread"})
_READERS = frozenset({"len", "list", "tuple", "set", "dict", "sorted", "sum", "int", "float", "bool", "str", "print"})
_OF_COROUTINES = frozenset({"close", "send", "throw"})


def check_signature(scope: Scope) -> Iterator[Sighting]:
    """Yield the mistakes in the signature of a callable; none if a partial hides it."""
    if not scope.signature_known:
        return
    function, arguments = scope.function, scope.function.args
    positional = [*arguments.posonlyargs, *arguments.args][1 if scope.bound_first else 0 :]
    if arguments.posonlyargs and positional and positional[0] in arguments.posonlyargs:
        message = f"{scope.name} has the positional-only parameter {positional[0].arg!r}, and steps call by name"
        yield Sighting("NF101", positional[0], message, function)
    elif positional:
        names = ", ".join(repr(each.arg) for each in positional)
        message = f"{scope.name} has positional parameters ({names}), and steps call by name"
        yield Sighting("NF101", positional[0], message, function)
    elif arguments.vararg:
        message = f"{scope.name} has '*{arguments.vararg.arg}', which is always empty, since steps call by name"
        yield Sighting("NF101", arguments.vararg, message, function)


def blocking_name(scope: Scope, node: ast.AST) -> str:
    """Return the name of the blocking function that a node calls, empty if it calls no known one."""
    name = scope.dotted(node.func) if isinstance(node, ast.Call) else ""
    return name if name in _BLOCKING else ""


def check_blocking(scope: Scope) -> Iterator[Sighting]:
    """Yield the blocking calls of a coroutine, without those in functions that it passes to a thread."""
    for node in scope.nodes if scope.is_coroutine else ():
        if not isinstance(node, ast.Call):
            continue
        if name := blocking_name(scope, node):
            yield Sighting("NF108", node, f"{scope.name} is a coroutine and calls {name}(), which blocks")
        elif isinstance(node.func, ast.Attribute) and node.func.attr == "sync_engine":
            message = f"{scope.name} is a coroutine and uses a sync engine, which blocks (pools.engine does not)"
            yield Sighting("NF108", node, message)


def check_awaits(scope: Scope) -> Iterator[Sighting]:
    """Yield the calls in a function that make a coroutine which nothing can await.

    These are known to make one: the queries of ``connectors.sql(…)``, the calls of ``connectors.api(…)``, coroutine
    functions of the same module and of the function itself (undecorated, since a decorator may change anything), and a
    few of asyncio. A coroutine that is returned, stored or passed to another function may be awaited there.
    """
    for node in scope.nodes:
        if isinstance(node, ast.Call) and (name := _coroutine(scope, node)) and _is_lost(scope, node):
            message = f"{name}() in {scope.name} makes a coroutine that is never awaited, so it does nothing"
            yield Sighting("NF109", node, message)


def _coroutine(scope: Scope, call: ast.Call) -> str:
    """Return the name of the called coroutine function; empty if it is not known to be one."""
    match call.func:
        case ast.Name(id=name) if _is_coroutine_function(scope.defined(name)):
            return name
        case ast.Attribute(attr=method, value=owner) if method in _CONNECTOR_METHODS.get(_connector(scope, owner), ()):
            return method
    full = scope.dotted(call.func)
    if full not in _ASYNCIO:
        return ""
    return call.func.id if isinstance(call.func, ast.Name) else full


def _is_coroutine_function(found: ast.stmt | None) -> bool:
    if not isinstance(found, ast.AsyncFunctionDef) or found.decorator_list:
        return False
    return not any(isinstance(node, ast.Yield | ast.YieldFrom) for node in own_nodes(found.body))


def _connector(scope: Scope, node: ast.expr) -> str:
    """Return ``sql`` or ``api`` for ``connectors.sql(…)``, ``connectors.api(…)`` and names bound to one."""
    match scope.resolved(node):
        case ast.Call(func=ast.Attribute(attr="sql" | "api" as kind, value=ast.Name(id="connectors" as name))):
            if name in scope.parameters:
                return kind if scope.bound[name] == 1 else ""
            known = name in scope.bound or name in scope.module.bindings or name in scope.module.imports
            return "" if known else kind
    return ""


def _is_lost(scope: Scope, call: ast.Call) -> bool:
    """Return True if nothing can await the result of a call."""
    match scope.parents.get(call):
        case ast.Expr() | ast.Subscript() | ast.BinOp() | ast.Compare() | ast.UnaryOp() | ast.FormattedValue():
            return True
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return _is_never_read(scope, name)
        case ast.Attribute(attr=attribute):
            return attribute not in _OF_COROUTINES and not attribute.startswith(("_", "cr_"))
        case ast.For(iter=held) | ast.comprehension(iter=held) | ast.If(test=held) | ast.While(test=held):
            return held is call
        case ast.Call(func=ast.Name(id=name)):
            return name in _READERS and name not in scope.bound and name not in scope.module.bindings
        case ast.Dict() as table:
            return isinstance(scope.parents.get(table), ast.Return)
    return False


def _is_never_read(scope: Scope, name: str) -> bool:
    for node in ast.walk(scope.function):
        if isinstance(node, ast.Global | ast.Nonlocal) and name in node.names:
            return False
        if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load):
            return False
    return True
