"""The live view of a run: one engine, three screens."""

from __future__ import annotations

from nomaflow_cli.live.following import follow_run
from nomaflow_cli.live.screens import PlainScreen, Screen, TerminalScreen, choose_screen

__all__ = ["PlainScreen", "Screen", "TerminalScreen", "choose_screen", "follow_run"]
