"""Failures of an attempt before its callable is called, and values that do not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

PREPARATION_REASONS: Mapping[str, tuple[str, str]] = {
    "reference_invalid": (
        "The callable's reference is not of the form module.name:attribute.",
        "Correct `callable` in jobs.toml.",
    ),
    "callable_not_found": (
        "The reference's module, or the attribute in it, does not exist.",
        "Correct `callable` in jobs.toml, or deploy the module.",
    ),
    "import_failed": (
        "The reference's module raised while it was imported.",
        "Correct the module; the message names its line.",
    ),
    "callable_unsupported": (
        "What the reference names cannot be a step: a class, a generator, not callable, or positional-only.",
        "Name a function whose parameters can be given by keyword.",
    ),
    "key_unknown": (
        "An op_kwargs key that the callable does not take, or one edit away from a parameter that nothing gives.",
        "Correct the key, or give the callable `**_`.",
    ),
    "argument_missing": (
        "A required parameter that neither op_kwargs, params nor the injections give.",
        "Add the key to op_kwargs or params, or give the parameter a default.",
    ),
    "value_invalid": (
        "A value does not fit its parameter's annotation, or is not a value of the wire format.",
        "Correct the value, or the annotation.",
    ),
    "environment_missing": (
        "A value refers to an environment variable that the host does not have, or withholds.",
        "Set it for the host, write `${NAME:-default}`, or list it in `[host] pass_env`.",
    ),
    "secret_unreadable": (
        "A file, an encrypted value or a plugin's reference that a value needs cannot be read.",
        "Correct what the message names: the file's permissions, the key, or the reference.",
    ),
    "secret_unavailable": (
        "The service that has a secret, such as a vault, is away or slow.",
        "Nothing, if the step has retries; otherwise run it again once the service is back.",
    ),
    "hook_failed": (
        "A plugin's hook raised before the call.",
        "Correct the plugin; NOMAFLOW_TRACE_HOOKS=1 shows every hook call.",
    ),
}
"""Each reason code of `PreparationFailed`: what it means, and what to do."""


class Misfit(ValueError):
    """Raised when a value does not fit; its text states the expected form."""


class PreparationFailed(Exception):
    """Raised when an attempt cannot be started and the host is not at fault.

    :ivar reason_code: a key of `PREPARATION_REASONS`
    :ivar message: one sentence for the run's record; there is no traceback to show
    """

    def __init__(self, reason_code: str, message: str) -> None:
        """Take the reason and a sentence about it."""
        super().__init__(message)
        self.reason_code = reason_code
        self.message = message
