"""Exceptions with which a callable decides its outcome, and the root of Nomaflow's exceptions."""

from __future__ import annotations

__all__ = ["NomaflowError", "StepCancelled", "StepFailed"]


class NomaflowError(Exception):
    """The root of every exception that Nomaflow itself raises."""


class StepFailed(NomaflowError):
    """Raised by a callable to mark its step as failed; counts against the retry policy.

    Any other exception has the same effect. This one is for a message written for the people who read the
    run.
    """


class StepCancelled(NomaflowError):
    """Raised by a callable to mark its step, and the run, as cancelled; never retried."""
