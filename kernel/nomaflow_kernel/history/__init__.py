"""Run history: states, records, transitions and reasons, the port that keeps them, and the feed of events."""

from __future__ import annotations
