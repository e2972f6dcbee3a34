"""Principals of a console: each has connections and a memory, and those that nobody needs are let go."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from nomaflow.client import ClientError, KernelUnreachable, Refused, Unauthenticated
from nomaflow.client.values import CallerView, JobPageView, KernelView, RunCountView
from nomaflow_console.kernel import calls
from nomaflow_console.kernel.calls import Kernels
from nomaflow_console.settings import ConsoleSettings


async def test_a_principal_that_has_not_called_for_the_longest_time_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what pages keep of it. The one that is asked for stays, and so does one for whom the kernel is watched."""
    monkeypatch.setattr(calls, "_MOST_PRINCIPALS", 2)
    kernels = Kernels(ConsoleSettings(project=tmp_path, address="tls://127.0.0.1:1"))
    watched, idle = kernels.principal("watched"), kernels.principal("idle")
    watched.hub.watch_a_while()
    kept = idle.kept("zones", dict)
    assert idle.kept("zones", dict) is kept
    newest = kernels.principal("newest")
    assert kernels.principal("watched") is watched
    assert kernels.principal("newest") is newest
    again = kernels.principal("idle")
    assert again is not idle
    assert again.kept("zones", dict) is not kept
    await kernels.close()


class Kernel:
    """Answers what the line about the kernel asks, or refuses."""

    def __init__(self) -> None:
        self.refusal: ClientError | None = None
        self.seq = 7
        self.counting = asyncio.Event()
        self.counting.set()

    async def get_kernel(self) -> KernelView:
        """Return what it is and who asks, or raise the refusal."""
        if self.refusal is not None:
            raise self.refusal
        caller = CallerView(name="ann", kind="user", grants=("read *",))
        return KernelView(version="1", epoch=1, pid=0, store="sqlite", last_event_seq=self.seq, caller=caller)

    async def list_hosts(self) -> list[Any]:
        """Return none."""
        return []

    async def summarize_runs(self) -> list[RunCountView]:
        """Return the open runs, once they are counted."""
        await self.counting.wait()
        return [RunCountView(state="RUNNING", runs=3, fires=3, rows_affected=0)]

    async def is_serving(self) -> bool:
        """Return that it serves."""
        return True

    async def list_jobs_page(self, **_: Any) -> JobPageView:
        """Return none."""
        return JobPageView()


async def test_a_kernel_that_refuses_a_call_for_now_takes_nothing_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond a quota what was told stays, and so does what may be done; a token that is refused knows nothing."""
    monkeypatch.setattr(calls, "_FRESH_SECONDS", 0.0)
    kernels, kernel = Kernels(ConsoleSettings(project=tmp_path, address="tls://127.0.0.1:1")), Kernel()
    principal = kernels.principal("token")
    asking = principal.asking
    principal.asking = kernel  # type: ignore[assignment]  # it answers as much as is asked
    told = await principal.status()
    assert (told.running, told.may("operate")) == (3, False)
    kernel.refusal = Refused("too many calls", reason="RATE_LIMITED")
    assert (await principal.status()).shown == told.shown
    assert not (await principal.status()).may("operate")
    assert (await principal.status()).last_event_seq == 7
    kernel.refusal = Unauthenticated("the token was revoked")
    assert (await principal.status()).running == 0
    principal.asking = asking
    await kernels.close()


async def test_the_line_about_the_kernel_is_kept_for_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many pages at once ask for it; a kernel that stays away has been away since it was first missed."""
    kernels, kernel = Kernels(ConsoleSettings(project=tmp_path, address="tls://127.0.0.1:1")), Kernel()
    principal = kernels.principal("token")
    asking = principal.asking
    principal.asking = kernel  # type: ignore[assignment]  # it answers as much as is asked
    told = await principal.status()
    kernel.refusal = KernelUnreachable("no kernel answers")
    assert await principal.status() is told
    monkeypatch.setattr(calls, "_FRESH_SECONDS", 0.0)
    away = (await principal.status()).away_since
    assert away is not None
    assert (await principal.status()).away_since == away
    principal.asking = asking
    await kernels.close()


async def test_a_kernel_that_is_slow_to_count_is_not_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what it is: pages may ask it, and its runs can be canceled. One that says nothing in time is away."""
    monkeypatch.setattr(calls, "_FRESH_SECONDS", 0.0)
    monkeypatch.setattr(calls, "PAGE_SECONDS", 0.05)
    kernels, kernel = Kernels(ConsoleSettings(project=tmp_path, address="tls://127.0.0.1:1")), Kernel()
    principal = kernels.principal("token")
    asking = principal.asking
    principal.asking = kernel  # type: ignore[assignment]  # it answers as much as is asked
    assert (await principal.status()).running == 3
    kernel.counting.clear()
    kernel.seq = 9
    slow = await principal.status()
    assert (slow.away_since, slow.running, slow.last_event_seq) == (None, 3, 9)
    monkeypatch.setattr(kernel, "get_kernel", kernel.counting.wait)
    assert (await principal.status()).away_since is not None
    principal.asking = asking
    await kernels.close()
