"""The synchronous client: the same calls, made on a loop in a thread of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from nomaflow.client.address import AddressSource
from nomaflow.client.errors import ClientUnusable
from nomaflow.client.kernel_client import KernelClient

P = ParamSpec("P")
R = TypeVar("R")


def _call(
    method: Callable[Concatenate[KernelClient, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[SyncKernelClient, P], R]:
    """Return the method as one that blocks until it has its result."""

    @functools.wraps(method)
    def blocking(self: SyncKernelClient, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.run(method(self.client, *args, **kwargs))

    return blocking


def _stream(
    method: Callable[Concatenate[KernelClient, P], AsyncIterator[R]],
) -> Callable[Concatenate[SyncKernelClient, P], Iterator[R]]:
    """Return the method as one that returns a blocking iterator."""

    @functools.wraps(method)
    def blocking(self: SyncKernelClient, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[R]:
        items, turn, end = method(self.client, *args, **kwargs), asyncio.Lock(), object()
        try:
            while (item := self.run(_next(items, turn, end))) is not end:
                yield item
        finally:
            # Nobody waits for it: an iterator that was left may be collected in the loop's own thread.
            with contextlib.suppress(ClientUnusable):
                self._submit(_close(items, turn))

    return blocking


async def _next(items: Any, turn: asyncio.Lock, end: object) -> Any:
    async with turn:
        return await anext(items, end)


async def _close(items: Any, turn: asyncio.Lock) -> None:
    async with turn:  # a Ctrl-C leaves a step of the iteration that has yet to end
        await items.aclose()


class SyncKernelClient:
    """A :class:`KernelClient` for code without an event loop. Use it as a context manager, or call ``close``.

    The parameters are those of :class:`KernelClient` except ``on_connected``; the methods are its methods except
    ``in_name_of``, with the same results and errors.
    """

    def __init__(
        self,
        address: str | Sequence[str] | AddressSource,
        *,
        token: str = "",
        ca: Path | str | bytes | None = None,
        by: str = "",
        connect_seconds: float = 5.0,
        retry_seconds: float = 60.0,
    ) -> None:
        self.client = KernelClient(
            address, token=token, ca=ca, by=by, connect_seconds=connect_seconds, retry_seconds=retry_seconds
        )
        self._process = os.getpid()
        self._closed = False
        self._order = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="nomaflow-client", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine on the client's loop and return its result.

        :raises ClientUnusable: if the client is closed, now or meanwhile, or this process was forked after it was made
        """
        future = self._submit(coroutine)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise ClientUnusable.closed() from None
        except BaseException:
            future.cancel()
            raise

    def _submit(self, coroutine: Coroutine[Any, Any, R]) -> concurrent.futures.Future[R]:
        if self._process != os.getpid():
            coroutine.close()
            raise ClientUnusable.forked()
        with self._order:
            if not self._closed:
                return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        coroutine.close()
        raise ClientUnusable.closed()

    def close(self) -> None:
        """Close the channel and end the thread; calls of other threads end. May be called twice."""
        if self._process != os.getpid():
            return  # neither the thread nor the channel is there
        with self._order:
            was_closed, self._closed = self._closed, True
        if was_closed:
            return
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        await self.client.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for each in others:
            each.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._loop.shutdown_asyncgens()

    cancel = _call(KernelClient.cancel)
    check_names = _call(KernelClient.check_names)
    create_token = _call(KernelClient.create_token)
    declare_ended = _call(KernelClient.declare_ended)
    forget_host = _call(KernelClient.forget_host)
    get_authority = _call(KernelClient.get_authority)
    get_job = _call(KernelClient.get_job)
    get_kernel = _call(KernelClient.get_kernel)
    get_run = _call(KernelClient.get_run)
    invite_instance = _call(KernelClient.invite_instance)
    job_stats = _call(KernelClient.job_stats)
    inspect_attempt = _call(KernelClient.inspect_attempt)
    is_serving = _call(KernelClient.is_serving)
    list_callables = _call(KernelClient.list_callables)
    list_certificates = _call(KernelClient.list_certificates)
    list_events = _call(KernelClient.list_events)
    list_fires = _call(KernelClient.list_fires)
    list_hosts = _call(KernelClient.list_hosts)
    list_wanted = _call(KernelClient.list_wanted)
    list_jobs = _call(KernelClient.list_jobs)
    list_jobs_page = _call(KernelClient.list_jobs_page)
    list_runs = _stream(KernelClient.list_runs)
    list_runs_page = _call(KernelClient.list_runs_page)
    list_tokens = _call(KernelClient.list_tokens)
    pause = _call(KernelClient.pause)
    read_audit = _stream(KernelClient.read_audit)
    read_audit_blocks = _stream(KernelClient.read_audit_blocks)
    read_log_blocks = _stream(KernelClient.read_log_blocks)
    read_log_chunks = _stream(KernelClient.read_log_chunks)
    read_logs = _stream(KernelClient.read_logs)
    reload_host = _call(KernelClient.reload_host)
    renew_authority = _call(KernelClient.renew_authority)
    replay = _call(KernelClient.replay)
    resume = _call(KernelClient.resume)
    revoke = _call(KernelClient.revoke)
    rotate_token = _call(KernelClient.rotate_token)
    summarize_runs = _call(KernelClient.summarize_runs)
    trigger = _call(KernelClient.trigger)
    trigger_many = _call(KernelClient.trigger_many)
    verify_audit = _call(KernelClient.verify_audit)
    wait = _call(KernelClient.wait)
    watch_events = _stream(KernelClient.watch_events)
    watch_run = _stream(KernelClient.watch_run)
