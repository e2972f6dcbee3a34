"""Resolve a reference, ``package.module:attribute.attribute``, to the object that it names."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import pkgutil
import re
import sys
import traceback
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from nomaflow_api.near_names import near_name
from nomaflow_host.injection.errors import PreparationFailed
from nomaflow_project.reading.callable_references import reference_error
from nomaflow_project.reading.misspelt_names import misspelt_name
from nomaflow_project.reading.worker_environment import withheld_hint

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")
_STANDARD = os.path.dirname(os.__file__) + os.sep


class ImportReport(Struct, frozen=True, kw_only=True):
    """The report of a failed import.

    :param code: a reason code, ``callable_not_found`` if there is no such module
    :param message: one line
    :param traceback: from the module's own frames; empty if there are none
    :param places: file and line of each of these frames, outermost first; for a syntax error only its own place
    """

    code: str
    message: str
    traceback: str = ""
    places: tuple[tuple[str, int], ...] = ()


def check_reference(text: str) -> None:
    """Check that a text is a well-formed reference. Nothing is imported.

    :raises PreparationFailed: ``reference_invalid`` with the mistake
    """
    problem = reference_error(text)
    if problem is not None:
        raise PreparationFailed("reference_invalid", f"{text[:80]!r} does not name a callable: {problem}")


def near(name: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"``, or an empty text if no known name is near."""
    meant = near_name(name, known)
    return f" (did you mean {meant!r}?)" if meant else ""


def resolve_reference(reference: str, *, importer: Callable[[str], ModuleType | ImportReport]) -> Any:
    """Import the module of a well-formed reference and return the attribute.

    :param importer: imports a module, or reports why it cannot
    :raises PreparationFailed: ``callable_not_found`` or ``import_failed``, with the half that failed and why
    """
    done, _, attribute = reference.partition(":")
    module = importer(done)
    if isinstance(module, ImportReport):
        raise PreparationFailed(module.code, f"the callable {reference!r} cannot be loaded: {module.message}")
    value: Any = module
    for name in attribute.split("."):
        try:
            found = inspect.getattr_static(value, name, None) if isinstance(value, type) else None
            owner, value = value, getattr(value, name)
        except AttributeError:
            raise PreparationFailed("callable_not_found", _missing_attribute(value, name, done)) from None
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a property or a module's __getattr__ runs any code
            problem = f"the callable {reference!r} cannot be loaded: {done!r} gave no {name!r}: {described(error)}"
            raise PreparationFailed("callable_not_found", stable(problem)) from None
        done = f"{done}.{name}" if ":" in done else f"{done}:{name}"
    if issubclass(type(owner), type) and issubclass(type(found), FunctionType):
        problem = (
            f"the callable {reference!r} is a method that needs an instance of {owner.__name__} "
            "(make it a static or class method, or a function of the module)"
        )
        raise PreparationFailed("callable_unsupported", problem)
    return value


def functions_of(module: ModuleType) -> Iterator[tuple[str, FunctionType]]:
    """Yield name and function of each Python function in a module.

    No other object is inspected, since even asking for its class may run any code.
    """
    if issubclass(type(module), ModuleType):
        for name, value in list(vars(module).items()):
            if issubclass(type(value), FunctionType):
                yield name, value


def _missing_attribute(owner: Any, name: str, done: str) -> str:
    if isinstance(owner, ModuleType):
        known = [each for each in vars(owner) if not each.startswith("_")]
        where, noun, file = owner.__name__, "function", getattr(owner, "__file__", None)
    else:
        known = [each for each in dir(owner) if not each.startswith("_")]
        where, noun, file = done, "attribute", None
    meant = near_name(name, known)
    hint = f"; did you mean {meant!r}?" if meant else f"; its file is {file}" if file else ""
    return f"{where} has no {noun} {name!r}{hint}"


def import_module(
    name: str, *, known_modules: Iterable[str] = (), withheld: Collection[str] = ()
) -> ModuleType | ImportReport:
    """Import a module; return a report in place of any exception, SystemExit included.

    :param withheld: names of variables that the host has and does not pass on
    """
    known = sys.modules.get(name)
    if known is not None:
        return known
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            return _missing_module(name, error.name, known_modules)
        return _failed_import(name, error, withheld)
    except BaseException as error:  # noqa: BLE001 - sys.exit() and KeyboardInterrupt of a module are reported as well
        return _failed_import(name, error, withheld)


def _missing_module(name: str, missing: str, known_modules: Iterable[str]) -> ImportReport:
    part = "" if missing == name else f" (there is no {missing!r})"
    parent = sys.modules.get(missing.rpartition(".")[0])
    if parent is not None and not hasattr(parent, "__path__"):
        part = f" ({parent.__name__!r} is a module, not a package)"
    meant = near_name(missing, _beside(missing)) if parent is not None else misspelt_name(missing, _beside(missing))
    hint = near(name, known_modules) or (f" (did you mean {meant!r}?)" if meant else "")
    return ImportReport(code="callable_not_found", message=f"there is no module {name!r}{part}{hint}")


def _beside(missing: str) -> Iterator[str]:
    """Yield the modules that are where a missing one would be."""
    package = missing.rpartition(".")[0]
    paths = getattr(sys.modules.get(package), "__path__", ()) if package else None
    return (each.name for each in pkgutil.iter_modules(paths, f"{package}." if package else ""))


def _failed_import(name: str, error: BaseException, withheld: Collection[str]) -> ImportReport:
    frames = _own_frames(error)
    places = tuple((frame.filename, frame.lineno or 0) for frame in frames)
    if isinstance(error, SyntaxError) and error.filename:
        places = ((error.filename, error.lineno or 0),)
    shown = [place for place in places if not _is_standard(place[0])] or places
    where = f" ({shown[-1][0]}:{shown[-1][1]})" if shown else ""
    why = described(error) + withheld_hint(error, withheld)
    message = stable(f"the module {name!r} cannot be imported: {why}{where}")
    return ImportReport(code="import_failed", message=message, traceback=_traceback(error, frames), places=places)


def _is_standard(filename: str) -> bool:
    """Return True if a frame's code is the standard library's, which is not the author's to correct."""
    if filename.startswith("<frozen "):
        return True
    return filename.startswith(_STANDARD) and f"{os.sep}site-packages{os.sep}" not in filename


def described(error: BaseException) -> str:
    """Return an exception in one line, even if its own text raises."""
    if isinstance(error, SystemExit):
        return f"it called sys.exit({error.code!r})"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"it imports {error.name!r}, which is not installed here"
    text = error.msg if isinstance(error, SyntaxError) else _text_of(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def raised_at(error: BaseException) -> str:
    """Return `` (file:line)`` of the line that has raised an exception, or an empty text if none has."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})" if trace is not None else ""


def _text_of(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception as hostile:  # noqa: BLE001 - an exception whose str() raises must not hide the import's failure
        return f"its text cannot be read, since str() raised {type(hostile).__name__}"
    lines = text.strip().splitlines()
    return (lines[0] if len(lines[0]) <= 300 else lines[0][:297] + "...") if lines else ""


def _own_frames(error: BaseException) -> list[traceback.FrameSummary]:
    frames = traceback.extract_tb(error.__traceback__)
    return [
        frame
        for frame in frames
        if not frame.filename.startswith("<frozen importlib") and frame.filename not in (__file__, importlib.__file__)
    ]


def _traceback(error: BaseException, frames: list[traceback.FrameSummary]) -> str:
    shown = traceback.format_list(frames)
    if isinstance(error, SyntaxError):
        shown += traceback.format_exception_only(error)
    else:
        shown.append(described(error) + "\n")
    text = stable("".join(shown))
    return text if len(text) <= 4096 else "...\n" + text[-4092:]


def stable(text: str) -> str:
    """Return *text* without memory addresses, so that the same code always gives the same text."""
    return _ADDRESS.sub("0x…", text)
