"""The trigger of a run."""

from __future__ import annotations

import datetime as dt
from typing import Any, NoReturn, Self

__all__ = ["Trigger"]


class Trigger(str):
    """The trigger of a run: its kind as text, with the caller and the time.

    ``ctx.trigger == "cron"`` works, as does anything else that text can do: it can be a dict's key, matched,
    logged and returned in a result. Two triggers of the same kind are equal, whoever fired them.

    :param kind: ``cron``, ``manual``, ``api``, ``cli``, ``call_job`` or ``replay``
    :param by: the caller's name; empty if unknown
    :param at: time, with a time zone; None if unknown
    """

    __slots__ = ("at", "by")

    by: str
    at: dt.datetime | None

    def __new__(cls, kind: str = "manual", *, by: str = "", at: dt.datetime | None = None) -> Self:
        """Make a trigger of *kind*."""
        self = super().__new__(cls, kind)
        object.__setattr__(self, "by", by)
        object.__setattr__(self, "at", at)
        return self

    @property
    def kind(self) -> str:
        """The kind as plain text."""
        return str.__str__(self)

    def __repr__(self) -> str:
        return f"Trigger({str.__repr__(self)}, by={self.by!r}, at={self.at!r})"

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a Trigger is read-only, so {name!r} cannot be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a Trigger is read-only, so {name!r} cannot be deleted")

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, Any]]:
        """Return the arguments with which copy and pickle create it again."""
        return (self.kind,), {"by": self.by, "at": self.at}

    def __getstate__(self) -> None:
        """Return no state: copy and pickle have nothing to set afterwards."""
