"""The console's budgets: pages over a million runs and a thousand jobs, a log of a million lines, idling, stopping."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from bench.history import copies
from bench.idle import cpu_seconds, pss_mib
from bench.reading import lengthen
from bench.system import System, eventually, job
from bench.throughput import until_over
from nomaflow.client import KernelClient

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

__all__ = ["console"]

_LINES, _CALLS, _OPENINGS = 10_000, 400, 16
_OTHERS = (
    job("log", "write", more=f"op_kwargs = {{ count = {_LINES} }}\n"),
    job("flood", "write", more="op_kwargs = { count = 2000000 }\n"),
    job("broken", "fail"),
)
_PAGES = {
    "runs": "/runs",
    "month": "/runs?since=31d",
    "jobs": "/",
    "schedule": "/schedule",
    "activity": "/activity",
    "run": "/runs/{failed}",
}
_CHROMIUM = "/usr/bin/chromium"
_BARE = "data:text/html,<p>nothing</p>"
"""The least page there is: how long the browser itself takes here."""
_PAINTED = """() => new Promise((done) => new PerformanceObserver((list) => {
  const found = list.getEntriesByName("first-contentful-paint");
  if (found.length) done(found[0].startTime);
}).observe({ type: "paint", buffered: true }))"""
_FRAMES = """() => new Promise((done) => {
  const began = performance.now();
  let count = 0;
  const next = (now) => {
    count++;
    if (now - began < 2000) requestAnimationFrame(next);
    else done([count, (now - began) / 1000]);
  };
  requestAnimationFrame(next);
})"""


async def console(*, runs: int = 1_000_000, jobs: int = 1_000, lines: int = 1_000_000) -> dict[str, list[float]]:
    """Return the values of each measure."""
    names = [f"job-{number:04}" for number in range(jobs - 3)]
    with System(jobs="\n".join([*map(_scheduled, range(jobs - 3), names), *_OTHERS])) as system:
        system.start_kernel()
        system.start_host()
        run_id, logged, failed = await _patterns(system, names[0])
        system.stop("kernel")
        copies(system.database, run_id=run_id, count=runs, jobs=names, failed=failed)
        lengthen(system.database, run_id=logged, times=lines // _LINES, lines=_LINES)
        system.start_kernel()
        async with system.client() as client:
            await system.until_attached(client)
            pid = _start(system)
            pids = (pid, system.processes["kernel"].pid)
            async with _visitor(system) as visitor:
                return {
                    **await _pages(visitor, pids, failed),
                    **await _log(visitor, logged, lines),
                    **await _painted(visitor),
                    **await _flooded(client, visitor, pid),
                    **await _on_screen(client, visitor),
                    **await _idle(pid),
                    **await _stop(visitor, pid),
                }


def _scheduled(number: int, job_id: str) -> str:
    """Return the text of a job that is due once a day; some a minute are due together."""
    tag = ("nightly", "sales", "reports")[number % 3]
    more = f'schedule = "{number % 60} {number // 60 % 24} * * *"\ntimezone = "Europe/Paris"\ntags = ["{tag}"]\n'
    return job(job_id, "nothing").replace("[[jobs.steps]]", f"{more}[[jobs.steps]]")


async def _patterns(system: System, job_id: str) -> tuple[str, str, str]:
    """Run a job, one that logs, and one that fails; return the ids of the runs."""
    async with system.client() as client:
        await system.until_attached(client)
        run_ids = [(await client.trigger(each)).run_id for each in (job_id, "log", "broken")]
        with system.look() as look:
            await until_over(look)
    return run_ids[0], run_ids[1], run_ids[2]


def _start(system: System) -> int:
    """Start the console and wait until it listens; return its process id."""
    flags = ("--project", str(system.root / "kernel"), "--listen", "127.0.0.1:0")
    process = system.start("console", "nomaflow_console", *flags)
    told = system.root / "kernel" / ".nomaflow" / "console"
    eventually(lambda: told.exists() or process.poll() is not None)
    return process.pid


def _address(system: System) -> str:
    return (system.root / "kernel" / ".nomaflow" / "console").read_text().split()[0]


@asynccontextmanager
async def _visitor(system: System) -> AsyncIterator[httpx.AsyncClient]:
    """A client that has logged in; it asks at 127.0.0.1, since not each resolver knows names below localhost."""
    command = [sys.executable, "-m", "nomaflow_console", "--project", str(system.root / "kernel"), "link"]
    made = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
    base = f"http://127.0.0.1:{_address(system).rpartition(':')[2]}"
    headers = {"origin": base, "sec-fetch-site": "same-origin", "accept": "text/html", "accept-encoding": "gzip"}
    async with httpx.AsyncClient(base_url=base, headers=headers, timeout=60) as visitor:
        answer = await visitor.post("/login", data={"code": made.stdout.strip().partition("#")[2]})
        assert answer.status_code == 303, answer.text
        yield visitor


async def _milliseconds(visitor: httpx.AsyncClient, path: str, calls: int) -> list[float]:
    taken = []
    for _ in range(calls):
        began = time.perf_counter()
        answer = await visitor.get(path)
        taken.append((time.perf_counter() - began) * 1000)
        assert answer.status_code == 200, (path, answer.text)
    return taken[1:]


async def _pages(visitor: httpx.AsyncClient, pids: Sequence[int], failed: str) -> dict[str, list[float]]:
    """C2 and C3: the server's part of pages, the processor time of it, and the weight of scripts and styles.

    :param pids: of the processes whose time counts
    :param failed: the id of a failed run
    """
    found: dict[str, list[float]] = {}
    for name, path in _PAGES.items():
        address = path.format(failed=failed)
        await visitor.get(address)
        before = sum(map(cpu_seconds, pids))
        found[f"C2 {name}"] = await _milliseconds(visitor, address, _CALLS)
        found[f"C2 {name} CPU"] = [(sum(map(cpu_seconds, pids)) - before) * 1000 / _CALLS]
    page = (await visitor.get("/runs")).text
    assets = set(re.findall(r'(?:src|href)="(/static/[^"]+\.(?:js|css))"', page))
    weight = 0
    for address in assets:
        weight += len(gzip.compress((await visitor.get(address)).content, 9))
    requests = len(assets) + 2  # the page, and its stream
    return {**found, "C3 weight": [weight / 1000], "C3 requests": [requests]}


async def _log(visitor: httpx.AsyncClient, run_id: str, lines: int) -> dict[str, list[float]]:
    """C4 and C5: any line of a long log, and a search of all of it."""
    jumps = []
    for number in range(60):
        row = (number * 7_919_993) % lines
        jumps += (await _milliseconds(visitor, f"/runs/{run_id}/log/lines?row={row}&count=120", 2))[:1]
    first: list[float] = []
    whole: list[float] = []
    for _ in range(5):
        began = time.perf_counter()
        async with visitor.stream("GET", f"/runs/{run_id}/log/search?q=line+009999") as answer:
            async for line in answer.aiter_lines():
                if json.loads(line).get("seqs") and len(first) == len(whole):
                    first.append((time.perf_counter() - began) * 1000)
        whole.append(time.perf_counter() - began)
    return {"C4 jump": jumps, "C5 first": first, "C5 search": whole}


@asynccontextmanager
async def _browser() -> AsyncIterator[Browser]:
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox"])
        yield browser
        await browser.close()


async def _tab(browser: Browser, visitor: httpx.AsyncClient) -> Page:
    """Return a tab with an empty cache that is logged in."""
    base = str(visitor.base_url).rstrip("/")
    cookies = [{"name": name, "value": value, "url": base} for name, value in visitor.cookies.items()]
    cookies.append({"name": "zone", "value": "UTC", "url": base})
    context = await browser.new_context(timezone_id="UTC", base_url=base)
    await context.add_cookies(cookies)  # type: ignore[arg-type]  # mappings of the keys that it takes
    return await context.new_page()


async def _painted(visitor: httpx.AsyncClient) -> dict[str, list[float]]:
    """C1: the first content of a page of 50 runs in a browser whose cache is empty, by turns with that of a bare page.

    Nothing without Chromium.
    """
    if not Path(_CHROMIUM).exists():
        return {}
    taken: dict[str, list[float]] = {"C1 painted": [], "C1 bare": []}
    async with _browser() as browser:
        for _ in range(_OPENINGS):
            for name, address in (("C1 painted", "/runs"), ("C1 bare", _BARE)):
                page = await _tab(browser, visitor)
                await page.goto(address)
                taken[name].append(float(await page.evaluate(_PAINTED)))
                await page.context.close()
    return {name: values[1:] for name, values in taken.items()}


async def _flooded(client: KernelClient, visitor: httpx.AsyncClient, pid: int) -> dict[str, list[float]]:
    """C9: frames a second of a page whose run logs as fast as it can, and what it keeps; nothing without Chromium."""
    if not Path(_CHROMIUM).exists():
        return {}
    run_id = (await client.trigger("flood")).run_id
    async with _browser() as browser:
        page = await _tab(browser, visitor)
        await page.goto(f"/runs/{run_id}")
        await page.wait_for_selector(".is-windowed .log-line")
        session = await page.context.new_cdp_session(page)
        sizes, frames, rates = [], [], []
        for _ in range(5):
            lines = (await client.get_run(run_id)).log_lines
            counted, seconds = await page.evaluate(_FRAMES)
            frames.append(counted / seconds)
            rates.append(((await client.get_run(run_id)).log_lines - lines) / seconds)
            await session.send("HeapProfiler.collectGarbage")
            sizes.append((await session.send("Runtime.getHeapUsage"))["usedSize"] / 1e6)
    await client.cancel(run_id)
    await client.wait(run_id)
    return {
        "C9 frames": frames,
        "C9 lines": rates,
        "C9 heap": [max(sizes) - sizes[0]],
        "C9 console": [pss_mib(pid)],
    }


async def _on_screen(client: KernelClient, visitor: httpx.AsyncClient) -> dict[str, list[float]]:
    """C6: from the answer to a trigger to the message on the stream of an open page."""
    taken = []
    seq = (await client.get_kernel()).last_event_seq
    async with visitor.stream("GET", f"/live?view=activity&all=1&after={seq}") as answer:
        messages = answer.aiter_lines()
        for _ in range(10):
            run_id = (await client.trigger("job-0001")).run_id
            began = time.perf_counter()
            async for line in messages:
                if line.startswith("data:") and run_id in line:
                    break
            taken.append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(1.0)  # so that no message is held back because of the one before
    return {"C6 on screen": taken}


async def _idle(pid: int, *, seconds: float = 20.0) -> dict[str, list[float]]:
    await asyncio.sleep(5)
    before = cpu_seconds(pid)
    await asyncio.sleep(seconds)
    return {"C7 console": [pss_mib(pid)], "C7 console CPU": [100 * (cpu_seconds(pid) - before) / seconds]}


async def _stop(visitor: httpx.AsyncClient, pid: int) -> dict[str, list[float]]:
    """C8: the time to stop with twenty streams open."""

    async def held() -> None:
        async with visitor.stream("GET", "/live?view=runs") as answer:
            opened.release()
            async for _ in answer.aiter_raw():
                pass

    opened = asyncio.Semaphore(0)
    visitor.timeout = httpx.Timeout(60)
    streams = [asyncio.create_task(held()) for _ in range(20)]
    for _ in streams:
        await opened.acquire()
    began = time.perf_counter()
    descriptor = os.pidfd_open(pid)
    signal.pidfd_send_signal(descriptor, signal.SIGTERM)
    await asyncio.gather(*streams, return_exceptions=True)
    await asyncio.to_thread(select.select, [descriptor], [], [], 30)
    os.close(descriptor)
    return {"C8 stop": [time.perf_counter() - began]}
