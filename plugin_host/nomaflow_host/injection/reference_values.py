"""The values of an attempt's references, as the host's main process gives them to the worker that runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nomaflow_project.reading.sources import (
    VARIABLE,
    EnvironmentMissing,
    Reference,
    ReferenceMissing,
    SecretUnreadable,
    is_secret,
)


class SecretUnavailable(ReferenceMissing):
    """Raised when the service that has a secret is away, or slow: another attempt may find it back."""

    reason_code = "secret_unavailable"


_KINDS = {each.reason_code: each for each in (EnvironmentMissing, SecretUnreadable, SecretUnavailable)}


@dataclass(frozen=True, slots=True)
class GivenValues:
    """The values of all references of one attempt: a value, or the reason why there is none.

    :param found: reference to its value, or to the error
    :param own: the worker's own variables, which come first: a plugin may have set one since
    """

    found: Mapping[Reference, str | ReferenceMissing] = field(repr=False)
    own: Mapping[str, str] = field(default_factory=dict, repr=False)
    whole_files: bool = False

    def value_of(self, reference: Reference) -> str:
        """Return the value.

        :raises ReferenceMissing: if there is none
        """
        if reference.scheme == VARIABLE and reference.rest in self.own:
            return self.own[reference.rest]
        value = self.found.get(reference)
        if value is None:
            raise SecretUnreadable(
                f"the host was not asked for {reference.shown}", fix="report this as a bug in nomaflow"
            )
        if isinstance(value, ReferenceMissing):
            raise value
        return value

    def secrets(self) -> set[str]:
        """Return the secrets among the values, for masking."""
        return {value for each, value in self.found.items() if isinstance(value, str) and is_secret(each)}

    def to_json(self) -> list[Any]:
        """Return a JSON-able form, credentials included."""
        return [
            [*each, [value.reason_code, value.problem, value.fix] if isinstance(value, ReferenceMissing) else value]
            for each, value in self.found.items()
        ]

    @classmethod
    def from_json(cls, rows: Sequence[Any], *, own: Mapping[str, str]) -> GivenValues:
        """Return the values that `to_json` made *rows* from."""
        return cls(
            own=own,
            found={
                Reference(scheme, rest): value if isinstance(value, str) else _KINDS[value[0]](value[1], fix=value[2])
                for scheme, rest, value in rows
            },
        )
