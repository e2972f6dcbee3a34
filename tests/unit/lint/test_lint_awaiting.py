"""NF109: coroutines that are never awaited, and those that may be."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Codes = Callable[..., list[str]]

HEAD = """
import asyncio
def process(item): ...
async def fetch(): ...
"""


def step(body: str, *, kind: str) -> str:
    """Return a module whose callable ``step`` has the body."""
    lines = "\n".join(f"    {line}" for line in body.split("\n"))
    return f"{HEAD}\n{kind} step(*, ctx, connectors, n: int, items, **_):\n{lines}\n"


@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize(
    "body",
    [
        "connectors.sql('s').execute('q', n=1)",
        "connectors.api('a').call('e')",
        "connectors.api('a').request('GET', '/')",
        "reads = connectors.sql('s')\nreads.fetch_all('q')",
        "rows = connectors.sql('s').fetch_all('q')",
        "_ = connectors.sql('s').fetch_one('q')",
        "return {'rows': connectors.sql('s').fetch_value('q')}",
        "return {'rows': len(connectors.sql('s').fetch_all('q'))}",
        "first = connectors.sql('s').fetch_all('q')[0]\nreturn first",
        "name = connectors.api('a').call('e').json()\nreturn name",
        "for row in connectors.sql('s').fetch_all('q'):\n    print(row)",
        "ids = {row for row in connectors.sql('s').fetch_all('q')}\nreturn len(ids)",
        "if connectors.sql('s').fetch_one('q'):\n    return 1",
        "if connectors.sql('s').fetch_value('q') > 3:\n    return 1",
        "print(f'{fetch()}')",
        "fetch()",
        "async def inner(): ...\ninner()",
        "asyncio.sleep(1)",
        "def inner():\n    connectors.sql('s').execute('q')\nprocess(inner)",
    ],
)
def test_coroutines_that_are_never_awaited(codes: Codes, body: str, kind: str) -> None:
    """A query, a call or a coroutine function whose result nothing can await is one finding."""
    assert codes(step(body, kind=kind)) == ["NF109"]


@pytest.mark.parametrize(
    "body",
    [
        "await connectors.sql('s').execute('q', n=1)",
        "rows = await connectors.sql('s').fetch_all('q')\nreturn len(rows)",
        "query = connectors.sql('s').fetch_all('q')\nreturn {'rows': len(await query)}",
        "return connectors.sql('s').execute('q')",
        "await asyncio.gather(connectors.sql('s').execute('q'), fetch())",
        "await asyncio.gather(*[connectors.sql('s').execute('q') for _ in items])",
        "task = asyncio.create_task(fetch())\nawait task",
        "async with asyncio.TaskGroup() as group:\n    group.create_task(fetch())",
        "jobs = []\njobs.append(fetch())\nawait asyncio.gather(*jobs)",
        "jobs = {'a': fetch()}\nawait jobs['a']",
        "asyncio.run(fetch())",
        "process(fetch())",
        "text = connectors.sql('s').statement('q')\nconnectors.sql('s').name",
        "connectors.connector('x').execute('q')",
        "n.sql('s').execute('q')",
        "connectors = n\nconnectors.sql('s').execute('q')",
        "def fetch(): ...\nfetch()",
        "fetch = process\nfetch()",
        "waiting = fetch()\nasync def inner():\n    await waiting\nawait inner()",
        "waiting = fetch()\nwaiting.close()",
        "async def rows():\n    yield 1\nrows()",
        "process(lambda: fetch())",
        "wrapped()",
        "return [await fetch() for _ in items][0]",
        "x = (await fetch()).json()\nreturn x",
        "connectors.sql('s').execute('q')  # noqa: NF109",
    ],
)
def test_coroutines_that_may_be_awaited(codes: Codes, body: str) -> None:
    """A coroutine that is awaited, returned, kept or passed on is no finding, nor is an unknown function's result."""
    source = step(body, kind="async def") + "\n@process\nasync def wrapped(): ...\n"
    assert [code for code in codes(source) if code == "NF109"] == []
