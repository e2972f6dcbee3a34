"""Alerts: a client of the kernel that tells people what needs them."""

from __future__ import annotations
