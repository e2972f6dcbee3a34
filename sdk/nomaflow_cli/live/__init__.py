"""The live view of a run: one engine, three screens."""

from __future__ import annotations

from nomaflow_cli.live.following import Connected, follow_run
from nomaflow_cli.live.screens import JsonScreen, PlainScreen, Screen
from nomaflow_cli.live.terminal import TerminalScreen, choose_screen

__all__ = ["Connected", "JsonScreen", "PlainScreen", "Screen", "TerminalScreen", "choose_screen", "follow_run"]
