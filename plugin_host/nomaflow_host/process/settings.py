"""The ``[host]`` table of nomaflow.toml: names, types and bounds."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

__all__ = ["HOST_NAME", "LOG_FORMATS", "LOG_LEVELS", "HostSettings", "SettingsInvalid"]

HOST_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
LOG_FORMATS = ("text", "json")


class SettingsInvalid(ValueError):
    """Raised when ``[host]`` cannot be used.

    :ivar path: the key, such as ``host.max_sync``
    :ivar problem: the mistake
    :ivar fix: the way out
    """

    def __init__(self, path: str, problem: str, fix: str) -> None:
        """Name the key, the problem and the way out."""
        super().__init__(f"{path}: {problem} ({fix})")
        self.path = path
        self.problem = problem
        self.fix = fix


@dataclass(frozen=True, kw_only=True, slots=True)
class HostSettings:
    """The values of ``[host]``; None means the host decides.

    :param name: empty means the name of the project's folder
    :param kernel: addresses, separated by commas; empty means the project's own kernel
    :param token_file: relative to the project
    :param env_file: files with variables of the project, relative to it
    :param kernel_ca: file of the authorities that the kernel's certificate must come from, relative to the project
    :param drain_seconds: time that steps have to finish when the host is asked to stop
    :param metrics: ``127.0.0.1:PORT`` to serve metrics on; empty means none
    """

    name: str = ""
    kernel: str = ""
    token_file: str = ""
    kernel_ca: str = ""
    max_async: int = 200
    max_sync: int | None = None
    max_parallel: int | None = None
    shared_workers: int | None = None
    cancel_grace_seconds: float = 5.0
    max_extras_bytes: int = 1 << 20
    memory_mb: int | None = None
    max_processes: int | None = None
    nice: int | None = None
    env_file: tuple[str, ...] = ()
    pass_env: tuple[str, ...] = ()
    recycle_after_steps: int | None = None
    recycle_growth_mb: int | None = None
    drain_seconds: float = 30.0
    log_level: str = "INFO"
    log_format: str = "text"
    metrics: str = ""

    @classmethod
    def from_table(cls, table: object) -> HostSettings:
        """Return the settings of a parsed ``[host]`` table.

        :raises SettingsInvalid: for an unknown key, a wrong type or a value out of bounds
        """
        if not isinstance(table, Mapping):
            raise SettingsInvalid("host", f"expected a table, got {_kind(table)}", "write [host] and its keys below")
        known = {each.name for each in fields(cls)}
        for key in table:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, n=1)
                fix = f"did you mean {near[0]!r}?" if near else f"the known keys are {', '.join(sorted(known))}"
                raise SettingsInvalid(f"host.{key}", "unknown key", fix)
        return cls(**{key: _checked(key, value) for key, value in table.items()})


_BOUNDS: Mapping[str, tuple[float, float]] = {
    "max_async": (1, 100_000),
    "max_sync": (1, 10_000),
    "max_parallel": (1, 1_000_000),
    "shared_workers": (1, 1024),
    "cancel_grace_seconds": (0, 86_400),
    "max_extras_bytes": (1024, 1_900_000),
    "memory_mb": (16, 1 << 24),
    "max_processes": (1, 1 << 22),
    "nice": (-20, 19),
    "recycle_after_steps": (1, 1 << 31),
    "recycle_growth_mb": (1, 1 << 24),
    "drain_seconds": (0, 604_800),
}
_FRACTIONS = frozenset({"cancel_grace_seconds", "drain_seconds"})


def _checked(key: str, value: object) -> Any:
    path = f"host.{key}"
    if key in _BOUNDS:
        return _number(path, key, _of_text(value))
    if key == "env_file" and isinstance(value, str):
        return (value,) if value else ()
    if key == "env_file":
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise SettingsInvalid(
                path, f"expected a path or a list of paths, got {_kind(value)}", 'write env_file = ".env"'
            )
        return tuple(value)
    if key == "pass_env":
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise SettingsInvalid(path, f"expected a list of names, got {value!r}", 'write pass_env = ["NAME"]')
        return tuple(value)
    if not isinstance(value, str):
        raise SettingsInvalid(path, f"expected text, got {_kind(value)}", "put it into quotes")
    if key == "name" and value and not HOST_NAME.fullmatch(value):
        problem = f"{value!r} is not a valid host name, expected at most 64 lower-case letters, digits, '-' and '_'"
        raise SettingsInvalid(path, problem, "give a name such as 'billing'")
    choices = {"log_level": LOG_LEVELS, "log_format": LOG_FORMATS}.get(key, ())
    if choices and value not in choices:
        raise SettingsInvalid(path, f"{value!r} is not one of {', '.join(choices)}", "write one of them")
    return value


def _of_text(value: object) -> object:
    """Return the number in a text, as references to the environment give it; any other value unchanged."""
    if isinstance(value, str):
        for kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                continue
    return value


def _number(path: str, key: str, value: object) -> float:
    least, most = _BOUNDS[key]
    if isinstance(value, bool) or not isinstance(value, (int, float) if key in _FRACTIONS else int):
        expected = "a number" if key in _FRACTIONS else "a whole number"
        raise SettingsInvalid(path, f"expected {expected}, got {_kind(value)}", "write it without quotes")
    if not least <= value <= most:
        raise SettingsInvalid(path, f"{value} is out of bounds", f"expected {least} to {most}")
    return value


def _kind(value: object) -> str:
    if isinstance(value, dict):
        return "a table"
    return "a list" if isinstance(value, list) else repr(value)
