"""Every hook of a plugin host. Nomaflow's own behaviour is implemented as plugins on them.

A plugin is a module with functions marked by `nomaflow.hookimpl` and named like a hook here; each takes any
of the hook's parameters. A host finds it in the project's plugins folder, or through the entry point group
``nomaflow.plugins``::

    from nomaflow import hookimpl

    @hookimpl
    def nomaflow_contribute_injections(call):
        return {"tenant": call.ctx.params.get("tenant", "main")}

The processes: the *template* loads a generation of plugin code once; the *workers*, forked from it, run the
callables; the *secrets process* resolves references for plugins. A host's main process, and the kernel, never call a
hook. ``NOMAFLOW_TRACE_HOOKS=1`` writes every
call to stderr.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pluggy

from nomaflow.calls import ConnectorFactory, SecretReader, StepCall, StepOutcome, StepType
from nomaflow.results import StepResult

__all__ = ["PROJECT_NAME", "hookimpl"]

PROJECT_NAME = "nomaflow"
"""pluggy's name for this project, and the prefix of every hook."""

hookspec = pluggy.HookspecMarker(PROJECT_NAME)
hookimpl = pluggy.HookimplMarker(PROJECT_NAME)
"""Marks a function of a plugin as the implementation of the hook it is named after."""


@hookspec(firstresult=True)
def nomaflow_resolve_callable(reference: str) -> Callable[..., Any] | None:
    """Turn a step's reference into the object to call.

    Called in the template for each callable of the manifest, and in a worker for a reference not seen before.

    :param reference: as jobs.toml has it, already checked for its grammar
    :return: the callable; None leaves it to the next plugin, last to the built-in import of
        ``module:attribute``
    :raises Exception: fails the attempt before the call, with the exception's text

    .. versionadded:: 0.1.0
    """


@hookspec
def nomaflow_contribute_injections(call: StepCall) -> Mapping[str, Any] | None:
    """Add keyword arguments to callables.

    Called in a worker before each call whose callable could take any. Also called once in the template, to learn the
    names before the first run, with a call that belongs to no run: its context is empty and its registry has no pools.
    A name is passed if the callable names it or has ``**kwargs``; an op_kwarg of that name overrides it. If two plugins
    give the same name, the one registered last wins, even over the built-in ``connectors``, ``ctx``, ``settings``.

    :param call: the call about to be made
    :return: name to value, or to a `nomaflow.calls.Factory` that makes it on demand; None for nothing
    :raises Exception: fails the attempt before the call, with the exception's text

    .. versionadded:: 0.1.0
    """


@hookspec
def nomaflow_contribute_connectors() -> Mapping[str, ConnectorFactory] | None:
    """Contribute further types of ``[connectors.NAME]``.

    Called once in each process that makes a registry: a worker, before its first attempt.

    :return: type name to a factory ``(name, table, registry)``; None for nothing. ``sql`` and ``api`` are
        built in

    .. versionadded:: 0.1.0
    """


@hookspec
def nomaflow_contribute_settings() -> Mapping[str, Any] | None:
    """Add values to ``settings``.

    Called in a worker when the settings are read: at its first attempt, and again after nomaflow.toml
    changed.

    :return: a tree merged into the settings; nomaflow.toml overrides it; None for nothing

    .. versionadded:: 0.1.0
    """


@hookspec(firstresult=True)
def nomaflow_normalise_return(value: Any, call: StepCall) -> StepResult | None:
    """Turn the value that a callable returned into a StepResult.

    Called in a worker after each call that returned. The StepResult's extras are validated afterwards,
    whichever plugin made it.

    :param value: the returned value
    :param call: the call that returned it
    :return: the result; None leaves it to the next plugin, last to the built-in rules for None, int, dict,
        StepResult
    :raises StepFailed: to refuse the value

    .. versionadded:: 0.1.0
    """


@hookspec
def nomaflow_attempt_started(call: StepCall) -> None:
    """Observe that a callable is about to be called.

    Called in the worker for each attempt, before the call, in the event loop's thread: it must not block. An
    exception is logged and changes nothing.

    :param call: the call about to be made

    .. versionadded:: 0.1.0
    """


@hookspec
def nomaflow_attempt_finished(call: StepCall, outcome: StepOutcome) -> None:
    """Observe the end of a call.

    Called in the worker for each attempt that started, unless the worker died. It must not block. An
    exception is logged and changes nothing.

    :param call: the call that was made
    :param outcome: the end of the call, as far as the worker knows

    .. versionadded:: 0.1.0
    """


@hookspec
def nomaflow_secrets(environ: Mapping[str, str]) -> Mapping[str, SecretReader] | None:
    """Resolve references such as ``${vault:path#field}`` in connectors.toml, params and op_kwargs.

    Called once in the host's secrets process, which runs no other code of the project: it has the host's whole
    environment, and only plugins of installed distributions. Attempts ask it when they start.

    :param environ: the host's variables
    :return: scheme to a function that takes what follows the colon and returns the value; None for nothing. A scheme
        is lower-case letters, digits and ``_``. The function is called in a thread, several at once, and has ten
        seconds
    :raises Exception: makes the plugin's references unreadable, as an error of the plugin

    .. versionadded:: 0.1.0
    """


@hookspec
def nomaflow_step_types() -> Sequence[StepType] | None:
    """Contribute step types besides ``python`` and ``call_job``.

    Called once in the template, for the manifest.

    :return: the types; None for nothing

    .. versionadded:: 0.1.0
    """
