"""The lint of a project: every callable that its jobs name, and the functions of their modules that these use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from nomaflow_cli.lint.calls import check_awaits, check_blocking, check_signature
from nomaflow_cli.lint.exceptions import check_swallowing
from nomaflow_cli.lint.locating import locate, reached_functions
from nomaflow_cli.lint.loops import check_loops
from nomaflow_cli.lint.module_source import FIXES, Sighting, Sources
from nomaflow_cli.lint.scopes import Scope, nested_functions
from nomaflow_project.reading.problems import Place, Problem

_Check = Callable[[Scope], Iterator[Sighting]]

_PLUGINS = "plugins"
_OF_EVERY_FUNCTION: tuple[_Check, ...] = (check_swallowing, check_blocking, check_awaits)
_OF_CALLABLES: tuple[_Check, ...] = (check_signature, check_loops, *_OF_EVERY_FUNCTION)


def lint_project(root: Path, references: Sequence[str]) -> tuple[Problem, ...]:
    """Return a warning for each mistake in the callables that jobs name, by file and line. Nothing is imported.

    References without a target here (no such module in the plugins folder, a syntax error, code that creates its
    functions at run time) are skipped: the check of the manifest reports callables that cannot be called.

    :param root: the project's folder
    :param references: as in jobs.toml, such as ``myapp.cleanup:purge_old_sessions``
    """
    sources = Sources(root / _PLUGINS)
    located = [scope for reference in sorted(set(references)) if (scope := locate(reference, sources)) is not None]
    found = sorted(
        (
            scope.module.file.relative_to(root).as_posix(),
            seen.node.lineno,
            seen.node.col_offset,
            seen.code,
            seen.message,
        )
        for callable_ in located
        for scope in _scopes(callable_)
        for check in (_OF_CALLABLES if scope.is_callable else _OF_EVERY_FUNCTION)
        for seen in check(scope)
        if not scope.module.silences(seen)
    )
    problems = (
        Place(file).warning(code, message, fix=f"{FIXES[code]}; if intended, add: # noqa: {code}", line=line)
        for file, line, _, code, message in found
    )
    return tuple(dict.fromkeys(problems))  # two callables may reach the same function


def _scopes(located: Scope) -> Iterator[Scope]:
    """Yield the callable, the functions of its module that it reaches, and the functions inside of them all."""
    yield located
    reached = reached_functions(located)
    for function in (*reached, *(inner for each in (located.function, *reached) for inner in nested_functions(each))):
        yield Scope(module=located.module, function=function)
