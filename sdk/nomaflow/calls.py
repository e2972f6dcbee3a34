"""The values that the hooks of `nomaflow.hookspecs` receive and return."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nomaflow.connectors import ConnectorRegistry

if TYPE_CHECKING:
    from pydantic import BaseModel

    from nomaflow.context import RunContext
    from nomaflow.settings import Settings

__all__ = ["ConnectorFactory", "Factory", "SecretReader", "StepCall", "StepOutcome", "StepType"]

ConnectorFactory = Callable[[str, Mapping[str, Any], ConnectorRegistry], Any]
"""Makes a connector from its name, its table of connectors.toml (secrets resolved) and the registry it is in."""

SecretReader = Callable[[str], str]
"""Returns the secret that a reference for a plugin names, given what follows the colon.

It raises `nomaflow.secrets.SecretUnavailable` if a retry may succeed, and `SecretRefused` if not.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepCall:
    """One call of a callable, as the hooks see it.

    :param reference: the callable, such as ``myapp.cleanup:purge_old_sessions``
    :param kind: ``async`` or ``sync``
    :param connectors: None if the call has none
    """

    reference: str
    kind: str
    ctx: RunContext
    connectors: ConnectorRegistry | None = field(default=None, repr=False)
    settings: Settings | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class StepOutcome:
    """The end of a call.

    :param state: ``SUCCEEDED``, ``FAILED`` or ``CANCELED``
    :param error: the short error text, empty if there is none
    :param seconds: run time of the callable
    """

    state: str
    rows_affected: int | None = None
    error: str = ""
    reason_code: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Factory:
    """Wraps an injection that is made only if the callable takes it.

    :param make: called once for each such call, in the worker, before the callable
    """

    make: Callable[[], Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class StepType:
    """A step type that a plugin contributes: a call of *callable* with the step's fields as op_kwargs.

    References to the environment in the fields are resolved in the host, at each attempt.

    :param name: the value of ``type = "…"`` in a step; lower-case letters, digits and ``_``
    :param callable: the reference of the callable
    :param schema: the JSON Schema of the fields; empty for any
    :param doc: one line of description
    :param overridable: the fields that params of job, preset and run, and op_kwargs of preset and run, may set
    :param secret: the fields whose values are masked in logs, errors, results and progress of the attempt
    :param model: a pydantic model of the fields; steps are checked against it when their jobs are loaded, and `schema`
        is generated from it. The callable gets the fields as they are in the file.
    """

    name: str
    callable: str
    schema: Mapping[str, Any] = field(default_factory=dict)
    doc: str = ""
    overridable: tuple[str, ...] = ()
    secret: tuple[str, ...] = ()
    model: type[BaseModel] | None = None
