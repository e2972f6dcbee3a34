"""The gRPC client of a kernel.

.. code-block:: python

    async with KernelClient("unix:/srv/team/.nomaflow/kernel.sock") as kernel:
        started = await kernel.trigger("nightly-cleanup")
        run = await kernel.wait(started.run_id)
        print(run.state, run.rows_affected)

:class:`KernelClient` and :class:`SyncKernelClient` load gRPC when first named; the errors, the values and the
addresses do not.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nomaflow.client.address import (
    AddressSource,
    FixedAddress,
    KernelPlace,
    ProjectAddress,
    read_token,
)
from nomaflow.client.errors import (
    ClientError,
    ClientUnusable,
    InvalidRequest,
    KernelFailed,
    KernelUnreachable,
    NotFound,
    NotTrusted,
    PermissionDenied,
    Refused,
    ReplyTimeout,
    Unauthenticated,
)
from nomaflow.client.profiles import Profile, ProfileFolder

if TYPE_CHECKING:
    from nomaflow.client.kernel_client import KernelClient
    from nomaflow.client.requests import ReplayOrder, TriggerOrder
    from nomaflow.client.sync_client import SyncKernelClient

__all__ = [
    "AddressSource",
    "ClientError",
    "ClientUnusable",
    "FixedAddress",
    "InvalidRequest",
    "KernelClient",
    "KernelFailed",
    "KernelPlace",
    "KernelUnreachable",
    "NotFound",
    "NotTrusted",
    "PermissionDenied",
    "Profile",
    "ProfileFolder",
    "ProjectAddress",
    "Refused",
    "ReplayOrder",
    "ReplyTimeout",
    "SyncKernelClient",
    "TriggerOrder",
    "Unauthenticated",
    "read_token",
]

_LAZY = {
    "KernelClient": "nomaflow.client.kernel_client",
    "SyncKernelClient": "nomaflow.client.sync_client",
    "ReplayOrder": "nomaflow.client.requests",
    "TriggerOrder": "nomaflow.client.requests",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
