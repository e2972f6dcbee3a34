"""What was decided for one commit, by whom it was asked, and the commit itself while it is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from nomaflow_kernel.domain.clock import Clock
from nomaflow_kernel.engine.inbox import Answer, Turn
from nomaflow_kernel.engine.state import Batch
from nomaflow_kernel.history.port import ApplyResult, DuplicateRun
from nomaflow_kernel.history.transitions import run_of

__all__ = ["Commit", "Decisions"]


@dataclass(kw_only=True, slots=True, eq=False)
class Decisions:
    """The turns of one commit, in order, with the answers that they get once it is durable.

    :param duplicates: runs that the commit before refused, and which these turns may have taken for real
    :param wanted_specs: waiting runs to be loaded once it is durable
    """

    batch: Batch
    turns: list[Turn] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    duplicates: Mapping[str, DuplicateRun] = field(default_factory=dict)
    wanted_specs: set[str] = field(default_factory=set)

    @classmethod
    def open(cls, clock: Clock) -> Decisions:
        """Return decisions to be filled, of now."""
        return cls(batch=Batch(now_us=clock.now_us(), now=clock.monotonic()))

    def decide(self, turns: Sequence[Turn], clock: Clock) -> None:
        """Have turns decide, of now."""
        self.batch.now_us, self.batch.now = clock.now_us(), clock.monotonic()
        self.turns += turns
        self.answers += [turn.decide_safely(self.batch) for turn in turns]

    def drop(self, duplicates: Mapping[str, DuplicateRun]) -> None:
        """Take out what was decided of runs that turn out not to be, as the store does within one commit."""
        if not duplicates:
            return
        self.duplicates = duplicates
        batch = self.batch
        batch.transitions = [each for each in batch.transitions if run_of(each) not in duplicates]
        batch.drop_dispatches(duplicates)

    def settle(self, result: ApplyResult) -> None:
        """Give every caller its answer, now that it is durable."""
        if self.duplicates:
            result = replace(result, duplicates={**self.duplicates, **result.duplicates})
        for turn, answer in zip(self.turns, self.answers, strict=True):
            turn.answer(result, answer)

    def fail(self, error: Exception) -> None:
        """Tell every caller that nothing was done."""
        for turn in self.turns:
            turn.fail(error)


@dataclass(frozen=True, kw_only=True, slots=True)
class Commit:
    """A commit that is under way.

    :param published: the newest event that watchers surely knew of as it began
    """

    decisions: Decisions
    outcome: asyncio.Future[ApplyResult]
    published: int
