"""NF103 to NF108: mistakes in the bodies of callables, and code that is no finding."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nomaflow_project.reading.problems import Problem

Codes = Callable[..., list[str]]
Lint = Callable[..., list[Problem]]

HEAD = """
import asyncio, contextlib, itertools, logging, subprocess, time, requests
from concurrent import futures
from time import sleep
from nomaflow import StepCancelled, StepFailed
_log = logging.getLogger(__name__)
NAMES = ("a", "b")
def process(item): ...
async def fetch(): ...
"""


def step(body: str, *, kind: str = "def", parameters: str = "ctx, n: int, items") -> str:
    """Return a module whose callable ``step`` has the body."""
    lines = "\n".join(f"    {line}" for line in body.strip("\n").split("\n"))
    return f"{HEAD}\n{kind} step(*, {parameters}, **_):\n{lines}\n"


@pytest.mark.parametrize(
    "body",
    [
        "while True:\n    n += 1",
        "while n < 10:\n    n += 1",
        "with open('x') as f:\n    while chunk := f.read(1):\n        n += len(chunk)",
        "for i in range(n):\n    i += 1",
        "for i in range(1, n, 2):\n    i += 1",
        "for i in range(10**9):\n    i += 1",
        "for i in range(1_000 * 1_000):\n    i += 1",
        "for i in itertools.count():\n    i += 1",
        "for line in iter(input, ''):\n    print(line)",
        "for i, item in enumerate(itertools.cycle(items)):\n    i += 1",
        "for item in items:\n    process(item)",
        "for item in items:\n    sleep(1)",
        "for item in items:\n    subprocess.run(item)",
        "for item in items:\n    n.execute(item)",
        "while items:\n    requests.post(items.pop())",
        "if n:\n    for name in NAMES:\n        while True:\n            n += 1",
        "while True:\n    _log.info('run %s', ctx.run_id)",
    ],
)
def test_long_loops(codes: Codes, body: str) -> None:
    """A possibly long loop of a plain function that never checks for a stop is one finding."""
    assert codes(step(body)) == ["NF103"]


@pytest.mark.parametrize(
    "body",
    [
        "while not ctx.is_cancelled():\n    n += 1",
        "for item in items:\n    if ctx.is_cancelled():\n        raise StepCancelled('stopped')\n    process(item)",
        "for item in items:\n    for each in item:\n        n = ctx.is_cancelled()\n        process(each)",
        "for item in items:\n    process(item, ctx)",
        "while n:\n    n = process(n, context=ctx)",
        "total = 0\nfor item in items:\n    total += item['amount']",
        "for item in items:\n    NAMES.append(item)",
        "for item in items:\n    print(item)\n    _log.info(item)",
        "for name in NAMES:\n    process(name)",
        "for name in ('a', 'b'):\n    sleep(1)",
        "for number, name in enumerate(NAMES):\n    n.execute(name)",
        "for number in range(3):\n    sleep(1)",
        "for number in range(len(items)):\n    n += 1",
        "queue = [n]\nwhile queue:\n    queue.extend(process(queue.pop()))",
        "return {'sum': sum(i for i in range(n))}",
    ],
)
def test_short_loops(codes: Codes, body: str) -> None:
    """A loop that checks, or shows no sign of being long, is no finding."""
    assert codes(step(body)) == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("while True:\n    n += 1", ["NF103"]),
        ("for i in range(n):\n    i += 1", ["NF103"]),
        ("while True:\n    await asyncio.sleep(1)", []),
        ("for item in items:\n    process(item)", []),
        ("while True:\n    async with n:\n        pass", []),
        ("while True:\n    time.sleep(1)", ["NF103", "NF108"]),
    ],
)
def test_loops_in_coroutines(codes: Codes, body: str, expected: list[str]) -> None:
    """An await counts as a check in a coroutine; endless loops without one are findings too."""
    assert codes(step(body, kind="async def")) == expected


SWALLOWED = [
    "try:\n    process(n)\nexcept Exception:\n    pass",
    "try:\n    process(n)\nexcept Exception as error:\n    _log.exception('no: %s', error)",
    "for item in items:\n    try:\n        process(item, ctx)\n    except Exception:\n        continue",
    "try:\n    process(n)\nexcept (ValueError, Exception):\n    return {'rows_affected': 0}",
    "try:\n    process(n)\nexcept Exception as error:\n    return {'error': str(error)}",
    "try:\n    process(n)\nexcept Exception:\n    n.rollback()\n    print('no')",
    "with contextlib.suppress(Exception):\n    process(n)",
    "try:\n    process(n)\nexcept* Exception:\n    pass",
    "try:\n    process(n)\nexcept asyncio.CancelledError:\n    raise\nexcept BaseException:\n    pass",
]


@pytest.mark.parametrize("body", SWALLOWED)
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_swallowed_exceptions(codes: Codes, body: str, kind: str) -> None:
    """A handler that catches every exception and only logs it is a finding."""
    assert codes(step(body, kind=kind)) == ["NF104"]


@pytest.mark.parametrize(
    "body",
    [
        "try:\n    process(n)\nexcept Exception:\n    _log.exception('no')\n    raise",
        "try:\n    process(n)\nexcept Exception as error:\n    raise StepFailed('no') from error",
        "try:\n    process(n)\nexcept ValueError:\n    pass",
        "try:\n    process(n)\nexcept Exception as error:\n    if n:\n        raise\n    _log.info('fine')",
        (
            "bad = []\nfor item in items:\n    try:\n        process(item, ctx)\n    except Exception as error:\n"
            "        bad.append(error)\nif bad:\n    raise StepFailed(str(bad))"
        ),
        (
            "failed = 0\nfor item in items:\n    try:\n        process(item, ctx)\n    except Exception:\n"
            "        _log.exception('no')\n        failed += 1\nreturn {'failed': failed}"
        ),
        (
            "for attempt in range(3):\n    try:\n        return process(n)\n    except Exception:\n"
            "        _log.warning('again')\nraise StepFailed('gave up')"
        ),
        (
            "for attempt in range(3):\n    try:\n        n = process(n)\n        break\n    except Exception:\n"
            "        time.sleep(1)\nelse:\n    raise StepFailed('gave up')"
        ),
        "try:\n    process(n)\nexcept BaseException:\n    n.rollback()\n    raise",
        "with contextlib.suppress(KeyError):\n    process(n)",
        "try:\n    process(n)\nexcept futures.CancelledError:\n    pass",
    ],
)
def test_handled_exceptions(codes: Codes, body: str) -> None:
    """An exception that is raised again, narrow, kept, or retried until a raise is no finding."""
    assert codes(step(body)) == []


@pytest.mark.parametrize(
    "body",
    [
        "try:\n    await fetch()\nexcept asyncio.CancelledError:\n    pass",
        "try:\n    await fetch()\nexcept asyncio.CancelledError:\n    _log.info('no')\n    return {'rows_affected': 0}",
        "try:\n    await fetch()\nexcept StepCancelled:\n    n = 1",
        "try:\n    await fetch()\nexcept (ValueError, asyncio.CancelledError) as error:\n    _log.info(error)",
        "try:\n    await fetch()\nexcept:\n    pass",
        "try:\n    await fetch()\nexcept BaseException as error:\n    n.append(error)",
        "with contextlib.suppress(asyncio.CancelledError):\n    await fetch()",
        "with contextlib.suppress(BaseException):\n    await fetch()",
        "try:\n    await fetch()\nfinally:\n    return {'rows_affected': 0}",
        "for _ in n:\n    try:\n        await fetch()\n    finally:\n        continue",
        "while n:\n  try:\n    await fetch()\n  finally:\n    for _ in n:\n      pass\n    else:\n      break",
        "async def inner():\n    try:\n        await fetch()\n    except StepCancelled:\n        pass\nawait inner()",
    ],
)
def test_swallowed_cancellations(codes: Codes, body: str) -> None:
    """A cancellation that is caught and not raised again is one finding, by whatever name it is caught."""
    assert codes(step(body, kind="async def")) == ["NF105"]


@pytest.mark.parametrize(
    "body",
    [
        "try:\n    await fetch()\nexcept asyncio.CancelledError:\n    n.close()\n    raise",
        "try:\n    await fetch()\nexcept:\n    n.rollback()\n    raise",
        "n.task.cancel()\ntry:\n    await n.task\nexcept asyncio.CancelledError:\n    pass",
        (
            "task = asyncio.create_task(fetch())\ntask.cancel()\n"
            "with contextlib.suppress(asyncio.CancelledError):\n    await task"
        ),
        "try:\n    await fetch()\nexcept BaseException as error:\n    n = error\nif n:\n    raise n",
        "try:\n    await fetch()\nfinally:\n    def inner():\n        return 1\n    inner()",
        "try:\n    await fetch()\nfinally:\n    for each in n:\n        if each:\n            break\n        continue",
    ],
)
def test_passed_cancellations(codes: Codes, body: str) -> None:
    """Cleaning up and raising again, and awaiting a task of one's own that was cancelled, are no findings."""
    assert codes(step(body, kind="async def")) == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("time.sleep(1)", ["NF108"]),
        ("sleep(1)", ["NF108"]),
        ("requests.get('http://x')", ["NF108"]),
        ("subprocess.run(['x'])", ["NF108"]),
        ("n.pools.sync_engine('default')", ["NF108"]),
        ("async def inner():\n    time.sleep(1)\nawait inner()", ["NF108"]),
        ("await asyncio.to_thread(time.sleep, 1)", []),
        ("def inner():\n    time.sleep(1)\nawait asyncio.to_thread(inner)", []),
        ("await asyncio.to_thread(lambda: requests.get('http://x'))", []),
        ("await asyncio.sleep(1)", []),
        ("n.sleep(1)", []),
    ],
)
def test_blocking_calls(codes: Codes, body: str, expected: list[str]) -> None:
    """A call that blocks is a finding in a coroutine, and none where a thread makes it."""
    assert codes(step(body, kind="async def")) == expected


def test_blocking_calls_are_fine_in_plain_functions(codes: Codes) -> None:
    """A plain function has a worker to itself and may block."""
    assert codes(step("time.sleep(1)\nrequests.get('http://x')\nn.pools.sync_engine('default')")) == []


def test_functions_that_the_callable_uses(lint: Lint) -> None:
    """Swallowing is also found in functions of the module that the callable leads to, and in no others."""
    found = lint(
        """
        async def step(**_):
            await outer()

        async def outer():
            await asyncio.to_thread(inner)

        def inner():
            try:
                work()
            except:
                pass

        def fallback():
            try:
                return work()
            except Exception:
                return None

        def unrelated():
            try:
                work()
            except:
                pass

        def work():
            return fallback()
        """
    )
    assert [(each.code, each.line) for each in found] == [("NF105", 11)]
