"""Annotations beyond the scalars, and names that are easily misspelt."""

from __future__ import annotations

import asyncio
import datetime as dt
import decimal
import enum
import gc
import pathlib
import uuid
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from nowhere import Nothing


class Colour(enum.Enum):
    """Some colours."""

    RED = "red"


class Opaque:
    """A class that pydantic knows nothing of."""


def told(**values):
    """Return type and text of each value that is there."""
    return {name: [type(value).__name__, str(value)] for name, value in values.items() if value is not None}


async def standard(
    *,
    since: dt.date = None,
    at: dt.time = None,
    moment: dt.datetime = None,
    window: dt.timedelta = None,
    price: decimal.Decimal = None,
    key: uuid.UUID = None,
    file: pathlib.Path = None,
    colour: Colour = None,
    mode: Literal["full", "delta"] = None,
    ids: list[int] = None,
    counts: dict[str, int] = None,
    until: dt.date | None = None,
    either: int | dt.date = None,
    opaque: Opaque = None,
    unknown: Nothing = None,
):
    return told(**locals())


async def swallows(*, min_rows: int = 5, **_):
    return {"min_rows": min_rows}


async def collects(*, min_rows: int = 5, **fields):
    return {"min_rows": min_rows, "fields": sorted(set(fields) & {"maximum"})}


async def needs(*, apps_id: int, **_):
    return {"apps_id": apps_id}


async def write(path):
    pathlib.Path(path).touch()


def forgets(*, connectors, **_):
    connectors.sql("reads").fetch_all("above", least=0)
    return {"rows_affected": 1}


async def forgets_its_own(*, path):
    write(path)


async def forgets_beside_others(*, number: int):
    await asyncio.sleep(0.02)
    if number % 2:
        write("nowhere")
    await asyncio.sleep(0.02)
    return {"number": number}


async def hides_it_in_a_cycle(**_):
    cycle = [write("nowhere")]
    cycle.append(cycle)


async def is_refused_and_goes_on(**_):
    try:
        return {"done": asyncio.run(answer())}
    except RuntimeError:
        return {"done": await answer()}


def has_no_loop_and_goes_on(**_):
    try:
        asyncio.create_task(answer())
    except RuntimeError as error:
        return {"done": asyncio.run(answer()), "error": str(error)}


async def answer():
    return 42


async def collects_garbage(**_):
    return gc.collect()


def returns_it(*, path):
    return write(path)


def returns_a_future(**_):
    return asyncio.new_event_loop().create_future()
