"""The wire contract between the kernel, its hosts and its clients. It imports none of our packages.

Besides it, for both sides: a decorator for value classes that are created by the dozen in each run, and the event loop.
"""

from __future__ import annotations
