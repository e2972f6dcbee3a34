"""Answers of the kernel that pages share until something happens: several tabs, and pages shown again, ask only once.

The kernel is asked for its newest event each time. An event is published before the call that caused it is answered, so
whoever changes something sees it on the next page. What changes without an event, such as the reason why a run waits,
may be some seconds old, as it is on a page that is live.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from starlette.requests import Request

from nomaflow_console.kernel.calls import kernel_of, principal_of
from nomaflow_console.kernel.kept_answers import take_note

T = TypeVar("T")
_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Loaded:
    """Something that was loaded, or is being loaded.

    :param version: another one than the version of now means that something has happened
    :param end: forgets it
    """

    version: Hashable
    loading: asyncio.Task[Any]
    end: asyncio.TimerHandle

    @property
    def failed(self) -> bool:
        return self.loading.done() and (self.loading.cancelled() or self.loading.exception() is not None)


class UntilChanged:
    """Keeps what was loaded in the last seconds, and no longer: it may be megabytes, and nobody may ask again."""

    def __init__(self) -> None:
        self._loaded: dict[Hashable, _Loaded] = {}

    async def of(self, key: Hashable, version: Hashable, load: Callable[[], Awaitable[T]]) -> T:
        """Return what was loaded for a key, if that is of the version of now.

        :param version: read before the call, so that nothing older is kept under it
        :param load: asks the kernel; its error is raised for all that wait, and is not kept
        """
        found = self._loaded.get(key)
        if found is None or found.version != version or found.failed:
            if found is not None:
                found.end.cancel()
            end = asyncio.get_running_loop().call_later(_SECONDS, self._loaded.pop, key)
            found = self._loaded[key] = _Loaded(version=version, loading=asyncio.ensure_future(load()), end=end)
            found.loading.add_done_callback(take_note)
        return cast("T", await asyncio.shield(found.loading))


async def until_changed(request: Request, key: Hashable, load: Callable[[], Awaitable[T]]) -> T:
    """Return what a page shows, loaded since the newest event of the kernel, and at most five seconds ago.

    :param key: what is shown; all that may see the same share it
    """
    kernel = await kernel_of(request).get_kernel()
    version = (kernel.store_id, kernel.last_event_seq, kernel.caller)
    return await principal_of(request).kept(UntilChanged, UntilChanged).of(key, version, load)
