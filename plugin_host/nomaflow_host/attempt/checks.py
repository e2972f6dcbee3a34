"""The values that the parts of a host exchange about checks: a step with its values, and the problems found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from nomaflow_api.value_class import value_class

__all__ = ["CheckOutcome", "CheckedStep", "ValueProblem"]


@value_class
class CheckedStep:
    """One step with the values that it would be called with.

    :param kwargs_json: JSON object of all layers merged, environment references unresolved
    :param strict_keys: the keys of ``kwargs_json`` that came from op_kwargs
    :param given_keys: the keys of ``kwargs_json`` to check
    """

    step: str
    callable: str
    kwargs_json: str = "{}"
    strict_keys: tuple[str, ...] = ()
    given_keys: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the step as a JSON-ready dict, for the frame that takes it to a worker."""
        return {
            "step": self.step,
            "callable": self.callable,
            "kwargs_json": self.kwargs_json,
            "strict_keys": self.strict_keys,
            "given_keys": self.given_keys,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_json` made."""
        lists = {name: tuple(values[name]) for name in ("strict_keys", "given_keys")}
        return cls(**{**values, **lists})


@value_class
class ValueProblem:
    """One value that its callable would refuse.

    :param code: the reason code that an attempt would fail with
    :param message: one sentence
    """

    step: str
    key: str
    code: str
    message: str

    def to_json(self) -> dict[str, str]:
        """Return the problem as a JSON-ready dict."""
        return {"step": self.step, "key": self.key, "code": self.code, "message": self.message}


@value_class
class CheckOutcome:
    """The result of a check.

    :param checked: False if the values could not be checked
    """

    checked: bool = True
    problems: tuple[ValueProblem, ...] = ()
