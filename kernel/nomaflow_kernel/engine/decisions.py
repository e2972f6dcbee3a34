"""The decisions for one commit, with the callers that wait for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from nomaflow_kernel.domain.clock import Clock
from nomaflow_kernel.engine.inbox import Turn
from nomaflow_kernel.engine.state import Batch
from nomaflow_kernel.history.lookups import ApplyResult
from nomaflow_kernel.history.transitions import AppendAudit, run_of


@dataclass(kw_only=True, slots=True, eq=False)
class Decisions(Batch):
    """A batch with the turns that decided it, in order, and the answers that callers get once it is durable.

    :param duplicates: runs that the previous commit refused; these turns may have relied on them
    :param size: bytes that the turns add to the commit
    :param wanted_specs: waiting runs to load once the commit is durable
    :param published: the newest event published when the commit began
    """

    turns: list[Turn] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)
    duplicates: Mapping[str, str] = field(default_factory=dict)
    size: int = 0
    wanted_specs: set[str] = field(default_factory=set)
    published: int = 0

    def decide(self, turns: Sequence[Turn], clock: Clock) -> None:
        """Let turns decide, at the current time."""
        self.now_us, self.now = clock.now_us(), clock.monotonic()
        self.turns += turns
        for turn in turns:
            self.answers.append(turn.decide(self))
            self.size += turn.size

    def add_audit(self) -> None:
        """Add the audit rows of the calls that these decisions answer, now that they are complete."""
        for turn, answer in zip(self.turns, self.answers, strict=True):
            for record in turn.audit(answer) if turn.audit is not None else ():
                self.add(AppendAudit(record=record))

    def drop(self, duplicates: Mapping[str, str]) -> None:
        """Remove the decisions about runs that turned out to be duplicates, as the store does within one commit."""
        if duplicates:
            self.duplicates = duplicates
            self.transitions = [each for each in self.transitions if run_of(each) not in duplicates]
            self.drop_dispatches(duplicates)

    def settle(self, result: ApplyResult) -> None:
        """Answer every caller, now that the commit is durable."""
        if self.duplicates:
            result = replace(result, duplicates={**self.duplicates, **result.duplicates})
        for turn, answer in zip(self.turns, self.answers, strict=True):
            turn.answer(result, answer)
