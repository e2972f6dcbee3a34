"""The identity of a host on TCP: its certificate and key, how it gets them, and where it keeps them."""

from __future__ import annotations

from nomaflow_host.identity.files import Identity, IdentityFolder
from nomaflow_host.identity.joining import join_kernel, read_join_string

__all__ = ["Identity", "IdentityFolder", "join_kernel", "read_join_string"]
