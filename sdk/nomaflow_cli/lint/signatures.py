"""NF101 and NF102: arguments that a signature cannot take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from nomaflow_cli.lint.findings import Sighting, sighting
from nomaflow_cli.lint.scopes import parameters_of

if TYPE_CHECKING:
    from nomaflow_cli.lint.locating import Located

__all__ = ["INJECTIONS", "check_signature"]

INJECTIONS = ("connectors", "ctx", "settings")
"""What is injected by name."""


def check_signature(located: Located) -> Iterator[Sighting]:
    """Yield the mistakes in the signature of a callable; none if a partial hides it."""
    if not located.signature_known:
        return
    function = located.function
    lines = {"first_line": function.lineno, "last_line": max(function.lineno, function.body[0].lineno - 1)}
    positional = [*function.args.posonlyargs, *function.args.args][1 if located.bound_first else 0 :]
    if function.args.posonlyargs and positional and positional[0] in function.args.posonlyargs:
        message = f"{function.name!r} has the positional-only parameter {positional[0].arg!r}, and steps call by name"
        yield sighting("NF101", positional[0], message, **lines)
    elif positional:
        names = ", ".join(repr(each.arg) for each in positional)
        message = f"{function.name!r} has positional parameters ({names}), and steps call by name"
        yield sighting("NF101", positional[0], message, **lines)
    elif function.args.vararg:
        name = function.args.vararg.arg
        message = f"{function.name!r} has '*{name}', which is always empty, since steps call by name"
        yield sighting("NF101", function.args.vararg, message, **lines)
    named = {each.arg for each in parameters_of(function)}
    unnamed = [name for name in INJECTIONS if name not in named]
    if function.args.kwarg is None and unnamed:
        listed = " and ".join([", ".join(unnamed[:-1]), unnamed[-1]] if len(unnamed) > 1 else unnamed)
        message = f"{function.name!r} has no ** and does not name {listed}, so it never gets {_them(unnamed)}"
        yield sighting("NF102", function, message, **lines)


def _them(names: list[str]) -> str:
    return "it" if len(names) == 1 else "them"
