"""The wire contract between the kernel, its hosts and its clients. It imports nothing of ours."""

from __future__ import annotations
