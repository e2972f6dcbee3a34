"""Parsers for values typed on a command line."""

from __future__ import annotations

import getpass
import json
import logging
import math
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise
from typing import Any

from nomaflow_api.byte_sizes import byte_size
from nomaflow_cli.errors import CliError

_SPAN = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>s|m|h|d)")
_MAX_SECRET = 64 * 1024
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST_SECONDS = 365_000 * 86400


def require_values(words: Iterable[str]) -> None:
    """Check that no word of a command line is empty, and no ``--option=`` either.

    Such a value comes from a variable that is not set: ``pause "$JOB"`` would pause everything.

    :raises CliError: if one is
    """
    for before, word in pairwise(("", *words)):
        option, equals, value = word.partition("=")
        if word and not (option.startswith("--") and equals and not value):
            continue
        named = option or before.partition("=")[0]
        raise CliError(
            f"{named} is empty" if named.startswith("-") else "an argument is empty",
            fix="give it a value, or leave it out; a variable that is not set makes an empty one",
        )


def parse_target(job: str, host: str) -> dict[str, Any]:
    """Return what a pause or a mute is for, by the fields of its request; None in both means everything.

    :raises CliError: if it is for a job and a host at once
    """
    if job and host:
        raise CliError("JOB and --host cannot be used together", fix="give only one of them")
    return {"job_id": job or None, "host": host or None}


def parse_params(given: Iterable[str]) -> dict[str, Any]:
    """Return ``key=value`` texts as a dict; a value is JSON, or plain text if it is not JSON.

    :raises CliError: if the form is wrong
    """
    values = {}
    for text in given:
        key, value = _split(text, option="--param", form="key=json, as in apps_id=10 or name='\"text\"'")
        values[key] = _parse_value(value, option=f"--param {key}")
    return values


def parse_op_kwargs(given: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return ``step.key=value`` texts as a dict of dicts; a step's own name may contain dots.

    :raises CliError: if the form is wrong
    """
    values: dict[str, dict[str, Any]] = {}
    for text in given:
        form = "step.key=json, as in purge.apps_id=10"
        name, value = _split(text, option="--op-kwarg", form=form)
        step, _, key = name.rpartition(".")
        if not step or not key:
            raise CliError(f"--op-kwarg {text!r} names no step", fix=f"write {form}")
        values.setdefault(step, {})[key] = _parse_value(value, option=f"--op-kwarg {name}")
    return values


def parse_switches(given: Iterable[str]) -> dict[str, bool]:
    """Return ``step=on`` and ``step=off`` texts as a dict.

    :raises CliError: if the form is wrong
    """
    values = {}
    for text in given:
        name, value = _split(text, option="--step", form="name=on or name=off")
        if value not in ("on", "off"):
            raise CliError(f"--step {name}: expected on or off, got {value!r}", fix=f"write --step {name}=off")
        values[name] = value == "on"
    return values


def _split(text: str, *, option: str, form: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise CliError(f"{option} {text!r} has no value", fix=f"write {form}")
    return key, value


def _parse_value(text: str, *, option: str) -> Any:
    """Return JSON as its value, and any other text as it is; text that looks like broken JSON is refused.

    :raises CliError: if the text starts like an object, a list or a string but is not one
    """
    try:
        return json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        if text.lstrip()[:1] in ("{", "[", '"'):
            raise CliError(f"{option}: not valid JSON: {error}", fix=f"got {text!r}; quote it for the shell") from None
        return text


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_constant(text)


def level_number(name: str) -> int:
    """Return the number of a level's name; a number stands for itself.

    :raises CliError: if there is no such level
    """
    known = logging.getLevelNamesMapping()
    if name.upper() in known:
        return known[name.upper()]
    if re.fullmatch("[0-9]{1,9}", name):
        return int(name)
    raise CliError(f"unknown level {name!r}", fix="use one of DEBUG, INFO, WARNING, ERROR, CRITICAL")


def parse_span(text: str, *, option: str) -> timedelta | None:
    """Return ``90s``, ``30m``, ``2h``, ``7d`` as a time span; None for an empty text.

    :raises CliError: if the form is wrong
    """
    if not text:
        return None
    match = _SPAN.fullmatch(text.strip().lower())
    if match is None:
        raise CliError(f"{option}: not a time span: {text!r}", fix="write a number and s, m, h or d, as in 30m")
    seconds = float(match["number"]) * _UNITS[match["unit"]]
    if seconds > _LONGEST_SECONDS:
        raise CliError(f"{option}: {text} is longer than 1,000 years", fix="write a shorter span, as in 30d")
    return timedelta(seconds=seconds)


def parse_instant(text: str, *, option: str, zone: tzinfo | None = None) -> datetime | None:
    """Return an ISO 8601 instant as an aware one; None for an empty text.

    :param zone: that of a time without one; None means the local zone
    :raises CliError: if the form is wrong
    """
    if not text:
        return None
    try:
        instant = datetime.fromisoformat(text)
        return (instant if instant.tzinfo else instant.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise CliError(f"{option}: not a time: {text!r}", fix="write ISO 8601, as in 2026-11-24T14:00:00Z") from None


def parse_end(until: str, span: str) -> datetime | None:
    """Return the end that ``--until`` or ``--for`` gives, as an aware time; None if neither is given.

    :raises CliError: if both are given, or a form is wrong
    """
    if until and span:
        raise CliError("--until and --for cannot be used together", fix="give only one of them")
    after = parse_span(span, option="--for")
    return parse_instant(until, option="--until") if after is None else datetime.now(UTC) + after


def parse_moment(text: str, *, option: str) -> datetime | None:
    """Return an ISO 8601 instant, or that of a span before now, such as ``1h``, as an aware time; None for no text.

    :raises CliError: if the form is wrong
    """
    try:
        before = parse_span(text, option=option) if _SPAN.fullmatch(text.strip().lower()) else None
        return parse_instant(text, option=option) if before is None else datetime.now(UTC) - before
    except CliError as error:
        raise CliError(str(error), fix="write a span before now, as in 1h or 7d, or 2026-11-24T14:00:00Z") from None


def hidden_value(name: str) -> str:
    """Return a secret from a hidden prompt, or all of standard input without its last newline.

    :param name: of the value, for the prompt

    :raises CliError: if it is empty, too long or no UTF-8 text
    """
    if sys.stdin.isatty():
        body = getpass.getpass(f"{name} (not shown): ").encode("utf-8", "surrogateescape")
    else:  # more than the value and the end of its line, if that is too long
        body = sys.stdin.buffer.read(_MAX_SECRET + 3).removesuffix(b"\n").removesuffix(b"\r")
    if not body or len(body) > _MAX_SECRET:
        raise CliError(
            f"the value is longer than {byte_size(_MAX_SECRET)}" if body else "the value is empty",
            fix="give it on standard input, from a file or a pipe",
        )
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        raise CliError("the value is not UTF-8 text", fix="encode it, for example as base64") from None
