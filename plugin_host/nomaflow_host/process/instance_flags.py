"""The flags of ``nomaflow host`` that have a variable, most of which describe one instance among several."""

from __future__ import annotations

import argparse
import os
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nomaflow_project.jobs.resources import MOST, bad_label

_CAPACITY = {"cpu": float, "memory_mb": int, "gpus": int}
_ATTEMPT_KEY = re.compile(r"run_[0-9a-z]{26}/.+/[1-9][0-9]*")
_LATEST = 253402300799.0  # the last second of 9999, UTC
PREFIX = "NOMAFLOW_HOST_"


def add_flags(parser: argparse.ArgumentParser) -> dict[str, str]:
    """Add the flags to the parser of ``nomaflow host``; return the variable of each by its attribute."""
    variables = {}
    for flag, metavar, kind, default, text in _FLAGS:
        key = flag[2:].replace("-", "_")
        variable = variables[key] = PREFIX + key.upper()
        # argparse passes a default that is a text through `type`: a bad variable is reported like a bad flag.
        given = os.environ.get(variable) or default
        parser.add_argument(flag, type=kind, default=given, metavar=metavar, help=f"{text} [{variable}]")
    return variables


def _attempt_key(text: str) -> str:
    """Return the key of an attempt, or an empty text.

    :raises ArgumentTypeError: if it is none
    """
    if text and not _ATTEMPT_KEY.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an attempt key; expected run_ID/STEP/NUMBER")
    return text


def positive_seconds(text: str) -> float:
    """Return a positive number of seconds.

    :raises ArgumentTypeError: if it is none
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


def _moment(text: str) -> float:
    """Return a moment in seconds since the epoch.

    :raises ArgumentTypeError: if it is none, or is past
    """
    try:
        now = time.time_ns() / 1e9
        at = now + float(text[1:]) if text.startswith("+") else float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a moment; expected +SECONDS, 2026-11-02T03:00:00Z or seconds since 1970"
            ) from None
        at = moment.timestamp()
    if not now < at <= _LATEST:
        clock = datetime.fromtimestamp(now, UTC)
        raise argparse.ArgumentTypeError(
            f"{text!r} is in the past, or beyond the year 9999; this machine's clock says {clock:%Y-%m-%dT%H:%M:%SZ}"
        )
    return at


def _pairs(text: str) -> Mapping[str, str]:
    parts = [part.partition("=") for part in text.split(",") if part]
    if bad := [name for name, sign, value in parts if not (name and sign and value)]:
        raise argparse.ArgumentTypeError(f"{bad[0]!r} has no value; expected NAME=VALUE, several with commas")
    return {name.strip(): value.strip() for name, _, value in parts}


def _labels(text: str) -> Mapping[str, str]:
    """Return labels by name.

    :raises ArgumentTypeError: if one is malformed
    """
    pairs = _pairs(text)
    if wrong := bad_label(pairs):
        raise argparse.ArgumentTypeError(wrong)
    return pairs


def _capacity(text: str) -> Mapping[str, float]:
    """Return the amounts that are given, by name.

    :raises ArgumentTypeError: if one is not known, or is not a number
    """
    amounts: dict[str, float] = {}
    for name, value in _pairs(text).items():
        if name not in _CAPACITY:
            raise argparse.ArgumentTypeError(f"unknown {name!r}; expected {', '.join(_CAPACITY)}")
        try:
            amounts[name] = _CAPACITY[name](value)
        except ValueError:
            amounts[name] = -1.0
        if not 0 <= amounts[name] <= MOST[name]:
            raise argparse.ArgumentTypeError(f"{name} is {value!r}; expected a number from 0 to {MOST[name]:,}")
    return amounts


_FLAGS: tuple[tuple[str, str | None, Callable[[str], Any], str | None, str], ...] = (
    ("--join", "FILE", str, "", "join a kernel on TCP with the string in this file, once; - is standard input"),
    (
        "--state-dir", "DIR", Path, None,
        "a folder of this machine for this instance alone, if several instances share the project's folder",
    ),
    ("--labels", "NAME=VALUE,…", _labels, "", "labels of this instance, laid over [host] labels"),
    (
        "--capacity", "cpu=N,…", _capacity, "",
        "cpu, memory_mb and gpus of this instance, laid over [host] capacity",
    ),
    (
        "--for-attempt", "KEY", _attempt_key, "",
        ("take this one attempt, of a step that wants an instance of its own, and nothing else; end with exit code 0 "
         "once the kernel has its report, or if it is over already"),
    ),
    (
        "--ends-at", "TIME", _moment, None,
        ("when the time of this machine ends: +SECONDS from now, 2026-11-02T03:00:00Z, or seconds since 1970; the "
         "instance takes no step that may last longer, and drains before"),
    ),
    ("--log-level", None, str, "", "lowest level of the host's own log"),
    ("--log-format", None, str, "", "text or json"),
    ("--metrics", None, str, "", "IP:PORT or unix:PATH to serve metrics on"),
)  # fmt: skip
"""Flag, name of its value, what reads a text, what stands for none, help."""
