"""The one error of cron expressions and zones."""

from __future__ import annotations

_SHOWN = 60


class CronError(ValueError):
    """Raised when a cron expression or a zone name cannot be used.

    :ivar problem: the text that was refused, the problem and what was expected, in one sentence
    :ivar fix: the way out; may be empty
    """

    def __init__(self, kind: str, subject: str, problem: str, *, fix: str = "") -> None:
        """Build the message from the kind of text (``cron expression``, ``timezone``), text, problem and fix."""
        shown = subject if len(subject) <= _SHOWN else subject[:_SHOWN] + "…"
        self.problem = f"{kind} {shown!r}: {problem}"
        self.fix = fix
        super().__init__("; ".join(filter(None, (self.problem, fix))))
