"""Runs schedules one after another on a living system, and restarts it after a failed one."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from torture_invariants import violations, violations_of_secrecy
from torture_play import Record, play
from torture_schedule import Schedule, make_schedule
from torture_system import Timeline, TortureSystem

__all__ = ["Torture", "Verdict"]

_LIFE = 200
"""Schedules after which a system makes room for a new one, so that its history does not grow without end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The verdict on one schedule.

    :param wrong: the promises that were broken; empty if all is well
    :param befell: the faults that came about
    :param kept: where everything of a failed schedule lies; None if all is well
    """

    seed: int
    seconds: float
    wrong: tuple[str, ...]
    timeline: tuple[str, ...]
    kept: Path | None = None
    befell: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Say it for a person."""
        lines = [f"seed {self.seed}: {len(self.wrong)} promises broken; everything is kept in {self.kept}"]
        return "\n  ".join([*lines, *self.wrong, "what was done:", *self.timeline])


class Torture:
    """Holds the system between schedules. Use it as an asynchronous context manager."""

    def __init__(self) -> None:
        self._system: TortureSystem | None = None
        self._played = 0

    async def __aenter__(self) -> Self:
        """Start nothing yet: the first schedule does."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the system, if there is one."""
        await self._drop(keep=False)

    async def run(self, seed: int) -> Verdict:
        """Play the schedule of a seed and judge it."""
        schedule = make_schedule(seed)
        system = await self._ready_system()
        system.timeline = Timeline()
        try:
            record = await play(system, schedule)
        except Exception as error:  # noqa: BLE001  # whatever it is, the schedule has failed for it, and says so
            wrong, seconds, befell = [f"the schedule did not come to its end: {error!r}"], 0.0, ()
        else:
            wrong, seconds, befell = await asyncio.to_thread(violations, record), record.seconds, tuple(record.befell)
            wrong += await asyncio.to_thread(violations_of_secrecy, system)
            self._clean(record, wrong)
            self._played += 1
        timeline = (*_told(schedule), *system.timeline.lines)
        kept = await self._drop(keep=True) if wrong else None
        if kept is not None:
            (kept / "verdict").write_text("\n".join([*wrong, "", *timeline, ""]))
        return Verdict(seed=seed, seconds=seconds, wrong=tuple(wrong), timeline=timeline, kept=kept, befell=befell)

    async def _ready_system(self) -> TortureSystem:
        if self._played >= _LIFE:
            await self._drop(keep=False)
        if self._system is None:
            self._played = 0
            self._system = TortureSystem(root=Path(tempfile.mkdtemp(prefix="nt-")))
            await self._system.start()
        return self._system

    def _clean(self, record: Record, wrong: list[str]) -> None:
        if not wrong:
            record.ledger.unlink(missing_ok=True)

    async def _drop(self, *, keep: bool) -> Path | None:
        system, self._system = self._system, None
        if system is None:
            return None
        await system.close()
        if not keep:
            shutil.rmtree(system.root)
        return system.root


def _told(schedule: Schedule) -> list[str]:
    return [f"{order.at_ms:5} ms  {order}" for order in schedule.orders] + [
        f"{fault.at_ms:5} ms  {fault}" for fault in schedule.faults
    ]
