"""Requests to the process of a kernel, over its terms of leadership."""

from __future__ import annotations

import asyncio

import pytest

from nomaflow_kernel.leadership.signals import Requests
from nomaflow_kernel.store.errors import StoreUnavailable


async def test_a_lead_that_is_lost_twice_is_no_request_of_the_next_term() -> None:
    """Lease and engine may both tell of it; the next term would read the jobs file anew, as if somebody had asked."""
    requests = Requests(dump=lambda: None)
    requests.lead_lost(StoreUnavailable("the lease is over"))
    assert await requests.next()
    requests.lead_lost(StoreUnavailable("the engine has ended"))
    requests.lead_again()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(requests.next(), 0.1)
