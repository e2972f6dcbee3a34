"""NF108: blocking calls in a coroutine."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from nomaflow_cli.lint.findings import Sighting, sighting
from nomaflow_cli.lint.scopes import FunctionNode, dotted, own_nodes

__all__ = ["blocking_name", "check_blocking"]

_HTTP = ("get", "post", "put", "patch", "delete", "head", "options", "request", "stream")
_BLOCKING = frozenset(
    {
        "time.sleep", "os.system", "os.wait", "os.waitpid", "input", "socket.create_connection",
        "subprocess.run", "subprocess.call", "subprocess.check_call", "subprocess.check_output",
        "subprocess.getoutput", "subprocess.getstatusoutput", "urllib.request.urlopen", "urllib.request.urlretrieve",
        *(f"requests.{name}" for name in _HTTP), *(f"httpx.{name}" for name in _HTTP),
    }
)  # fmt: skip


def blocking_name(node: ast.AST, imports: Mapping[str, str]) -> str:
    """Return the name of the blocking function that a node calls, empty if it calls no known one."""
    name = dotted(node.func, imports) if isinstance(node, ast.Call) else ""
    return name if name in _BLOCKING else ""


def check_blocking(function: FunctionNode, imports: Mapping[str, str]) -> Iterator[Sighting]:
    """Yield the blocking calls of a coroutine, without those in functions that it passes to a thread."""
    if isinstance(function, ast.FunctionDef):
        return
    for node in own_nodes(function.body):
        name = blocking_name(node, imports)
        if name and isinstance(node, ast.Call):
            yield sighting("NF108", node, f"{function.name!r} is a coroutine and calls {name}(), which blocks")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "sync_engine":
            message = f"{function.name!r} is a coroutine and uses a sync engine, which blocks (pools.engine does not)"
            yield sighting("NF108", node, message)
