"""The page of ``nomaflow schedule``."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from nomaflow_cli.pages.cells import table
from nomaflow_cli.wording import age

if TYPE_CHECKING:
    from nomaflow_project.check.planning import ScheduleTable

__all__ = ["schedule_page"]


def schedule_page(found: ScheduleTable) -> RenderableType:
    """Return the fires day by day, with a mark on simultaneous ones, then the schedules too frequent to list."""
    if not found.fires and not found.frequent:
        return "nothing is scheduled"
    parts: list[RenderableType] = []
    if found.fires:
        shape = table("day", "time", "job", "at once with", loose=("at once with",))
        for day, group in groupby(found.fires, key=lambda fire: fire.at.astimezone().strftime("%a %d %b")):
            for number, fire in enumerate(group):
                name = f"{fire.job_id} ({fire.preset})" if fire.preset else fire.job_id
                more = fire.at_once - 1 - len(fire.collides_with)
                others = ", ".join(fire.collides_with) + (f" and {more} more" if more > 0 else "")
                local = fire.at.astimezone().strftime("%H:%M:%S")
                shape.add_row("" if number else day, local, Text(name), Text(others, style="yellow"))
        parts.append(shape)
    if found.frequent:
        shape = table("often", "schedule", "first")
        for each in found.frequent:
            name = f"{each.job_id} ({each.preset})" if each.preset else each.job_id
            shape.add_row(Text(name), Text(f"{each.schedule} {each.timezone}"), age(each.first))
        parts.append(shape)
    return Group(*parts)
