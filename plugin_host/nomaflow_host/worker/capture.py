"""Captures every log record, whatever plugin code has configured.

A handler on the root logger would miss loggers that do not propagate, and vanish with the first ``dictConfig``. So
the methods through which every record passes are wrapped instead, once per process and before any plugin is imported.
"""

from __future__ import annotations

import logging
import logging.config
import sys
import traceback
import warnings
from typing import TYPE_CHECKING, Any

from nomaflow_host.worker.scope import current_scope

if TYPE_CHECKING:
    from collections.abc import Callable

    from nomaflow_host.worker.scope import AttemptScope

_plain_handle = logging.Logger.handle
_plain_call_handlers = logging.Logger.callHandlers
_plain_set_level = logging.Logger.setLevel
_formatter = logging.Formatter()


def install_log_capture() -> None:
    """Wrap the logging module of this process. Call it once."""
    logging.Logger.handle = _handle  # type: ignore[method-assign]  # the purpose of this module
    logging.Logger.callHandlers = _call_handlers  # type: ignore[method-assign]  # the purpose of this module
    # The level of the root logger is the run's log level; a plugin's dictConfig or basicConfig must not undo it.
    logging.RootLogger.setLevel = _ignore_level  # type: ignore[method-assign, assignment]  # the purpose of this module
    # logging.disable() must not undo it either: it would silence every step of this process, for good.
    logging.Manager.disable = property(_not_disabled, _ignore_level)  # type: ignore[assignment]  # the purpose of this module
    _keep_existing_loggers()
    _plain_set_level(logging.root, logging.INFO)
    logging.captureWarnings(capture=True)


def set_log_level(level: int) -> None:
    """Set the level of records that pass if their logger has no level of its own."""
    if logging.root.level != level:
        _plain_set_level(logging.root, level)


def show_warnings_again() -> None:
    """Forget which warnings were shown, so that each attempt shows its own."""
    warnings.simplefilter("default", append=True)


def keep_warning_filters() -> Callable[[], None]:
    """Return a function that sets the filters of warnings as they are now: a step's own must not fail the next one."""
    show_warnings_again()  # adds a filter, once
    kept = list(warnings.filters)

    def restore() -> None:
        if warnings.filters != kept:
            warnings.resetwarnings()
            warnings.filters.extend(kept)  # type: ignore[attr-defined]  # a list, which typeshed calls a sequence

    return restore


def record_text(record: logging.LogRecord) -> str:
    """Return a record's message with its traceback and stack, even if its arguments raise when formatted."""
    try:
        text = record.getMessage()
    except Exception as error:  # noqa: BLE001  # any code of the author's may run here
        raw = record.msg if type(record.msg) is str else type(record.msg).__name__
        text = f"{raw} (not formatted: {type(error).__name__})"
    if record.exc_info:
        text = f"{text}\n{_exception_text(record.exc_info)}"
    elif record.exc_text:
        text = f"{text}\n{record.exc_text}"
    return f"{text}\n{record.stack_info}" if record.stack_info else text


def _exception_text(info: Any) -> str:
    try:
        return _formatter.formatException(info)
    except Exception:  # noqa: BLE001  # an exception's own __str__ may raise
        kind, _, trace = info
        return "".join(traceback.format_tb(trace)) + f"{kind.__name__} (its text cannot be shown)"


def _handle(self: logging.Logger, record: logging.LogRecord) -> None:
    """Put the attempt's names on a record before filters and formatters see it."""
    scope = current_scope()
    if scope is None:
        _plain_handle(self, record)
        return
    fields = record.__dict__
    fields.setdefault("run_id", scope.run_id)
    fields.setdefault("step", scope.step)
    fields.setdefault("attempt", scope.attempt)
    if self.filters or self.disabled:
        _plain_handle(self, record)
    else:
        _deliver(self, record, scope)


def _call_handlers(self: logging.Logger, record: logging.LogRecord) -> None:
    """Write the record to the attempt's log, then pass it to the handlers that do not write to the terminal."""
    scope = current_scope()
    if scope is None:
        _plain_call_handlers(self, record)
    else:
        _deliver(self, record, scope)


def _deliver(start: logging.Logger, record: logging.LogRecord, scope: AttemptScope) -> None:
    if record.levelno >= scope.level:
        scope.emit(record.levelno, int(record.created * 1_000_000), record.name, record_text(record))
    logger: logging.Logger | None = start
    while logger is not None:
        for handler in logger.handlers:
            if record.levelno >= handler.level and not _is_console(handler):
                handler.handle(record)
        logger = logger.parent if logger.propagate else None


def _is_console(handler: logging.Handler) -> bool:
    """Return True if the handler's lines would appear a second time, as printed ones. One of rich has a console."""
    stream = getattr(handler, "stream", None) or getattr(getattr(handler, "console", None), "file", None)
    return stream is not None and stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)


def _ignore_level(_self: object, _level: int | str) -> None:
    """Leave the level of the root logger, or that of ``logging.disable``, unchanged."""


def _not_disabled(_self: logging.Manager) -> int:
    return logging.NOTSET


def _keep_existing_loggers() -> None:
    """Make dictConfig and fileConfig keep existing loggers, as the loggers' authors expect."""
    name = "_handle_existing_loggers"
    plain = getattr(logging.config, name, None)
    if plain is not None:

        def keep(existing: Any, child_loggers: Any, _disable_existing: Any) -> None:
            plain(existing, child_loggers, False)  # noqa: FBT003  # the standard library's own signature

        setattr(logging.config, name, keep)
