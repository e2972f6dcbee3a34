"""The lint of a project: every callable that its jobs name, and the functions of their modules that these use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from nomaflow_cli.lint.awaiting import check_awaits
from nomaflow_cli.lint.blocking import check_blocking
from nomaflow_cli.lint.findings import Finding, Sighting
from nomaflow_cli.lint.locating import Located, locate, reached_functions
from nomaflow_cli.lint.loops import check_loops
from nomaflow_cli.lint.returning import check_returns
from nomaflow_cli.lint.scopes import nested_functions
from nomaflow_cli.lint.signatures import check_signature
from nomaflow_cli.lint.silencing import is_silenced
from nomaflow_cli.lint.sources import SourceModule, Sources
from nomaflow_cli.lint.swallowing import check_swallowing

__all__ = ["lint_project"]

_PLUGINS = "plugins"


def lint_project(root: Path, references: Sequence[str]) -> tuple[Finding, ...]:
    """Return the mistakes in the callables that jobs name, ordered by file and line. Nothing is imported.

    References without a target here (no such module in the plugins folder, a syntax error, code that creates its
    functions at run time) are skipped: the check of the manifest reports callables that cannot be called.

    :param root: the project's folder
    :param references: as in jobs.toml, such as ``myapp.cleanup:purge_old_sessions``
    """
    sources = Sources([root / _PLUGINS])
    found: set[Finding] = set()
    for reference in sorted(set(references)):
        located = locate(reference, sources)
        if located is not None:
            found.update(_findings(located.module, _sightings(located), root))
    return tuple(sorted(found, key=lambda each: (each.file, each.line, each.column, each.code)))


def _sightings(located: Located) -> Iterator[Sighting]:
    module, function = located.module, located.function
    yield from check_signature(located)
    yield from check_loops(function, module)
    yield from check_returns(function, module.imports)
    yield from check_swallowing(function, module.imports, is_callable=True)
    yield from check_blocking(function, module.imports)
    yield from check_awaits(function, module)
    reached = reached_functions(located)
    for other in [*nested_functions(function), *reached, *(each for one in reached for each in nested_functions(one))]:
        yield from check_swallowing(other, module.imports, is_callable=False)
        yield from check_blocking(other, module.imports)
        yield from check_awaits(other, module)


def _findings(module: SourceModule, sightings: Iterable[Sighting], root: Path) -> Iterator[Finding]:
    for seen in sightings:
        if not is_silenced(seen, module.silenced):
            yield Finding(
                code=seen.code,
                file=_shown(module.file, root),
                line=seen.line,
                column=_column(module, seen),
                message=seen.message,
                fix=seen.fix,
            )


def _shown(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix()


def _column(module: SourceModule, seen: Sighting) -> int:
    """Return the column in characters, from 1; `ast` counts bytes."""
    line = module.lines[seen.line - 1] if seen.line <= len(module.lines) else ""
    return len(line.encode()[: seen.column].decode("utf-8", "replace")) + 1
