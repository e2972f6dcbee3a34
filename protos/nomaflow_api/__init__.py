"""The wire contract between the kernel, its hosts and its clients. It imports nothing of ours.

Beside it, for its two sides: how classes of values are made that come by the dozen with each run, and the event loop.
"""

from __future__ import annotations
