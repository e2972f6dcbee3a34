"""The live view of a run: one engine, three screens."""

from __future__ import annotations

from nomaflow_cli.live.following import Connected, follow_run
from nomaflow_cli.live.screens import JsonScreen, PlainScreen, Screen, choose_screen

__all__ = ["Connected", "JsonScreen", "PlainScreen", "Screen", "choose_screen", "follow_run"]
