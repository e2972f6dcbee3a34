"""The log of a process: one form for people, one for machines."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from nomaflow_telemetry.process_log import attempt_fields, set_up_logging, write_state


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """Give the root logger back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def written(form: str, **settings: Any) -> io.StringIO:
    """Return what the log is written to from now on."""
    stream = io.StringIO()
    set_up_logging(level=settings.pop("level", "INFO"), form=form, stream=stream, **settings)
    return stream


def test_a_json_line_has_the_fields_that_apply() -> None:
    """Time in UTC, level, logger and message always; host, run, step, attempt and exception where there is one."""
    stream = written("json", host="team")
    log = logging.getLogger("nomaflow_host.session")
    log.warning("gone: %s", "x", extra=attempt_fields("run_1/a/b/2"))
    try:
        raise ValueError("no")
    except ValueError:
        log.exception("failed")
    about_attempt, about_error = map(json.loads, stream.getvalue().splitlines())
    at = datetime.fromisoformat(about_attempt.pop("ts"))
    assert at.utcoffset() is not None
    assert not at.utcoffset()
    assert about_attempt == {
        "level": "WARNING", "logger": "nomaflow_host.session", "message": "gone: x",
        "host": "team", "run_id": "run_1", "step": "a/b", "attempt": 2,
    }  # fmt: skip
    assert set(about_error) == {"ts", "level", "logger", "message", "host", "exc"}
    assert about_error["exc"].endswith("ValueError: no")


def test_a_record_names_another_host_than_the_process() -> None:
    """A kernel's record about a host has that host; its others have none."""
    stream = written("json")
    logging.getLogger("nomaflow_kernel.hosts").info("attached", extra={"host": "team"})
    logging.getLogger("nomaflow_kernel.hosts").info("serving")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first["host"] == "team"
    assert "host" not in second


def test_a_text_line_names_the_attempt_behind_the_message() -> None:
    """A line for people has time, level, logger and message, then its subject."""
    stream = written("text", host="team")
    logging.getLogger("nomaflow_host.session").warning("gone", extra=attempt_fields("run_1/a/1"))
    assert stream.getvalue()[24:] == "WARNING  nomaflow_host.session: gone  run_id=run_1 step=a attempt=1\n"


@pytest.mark.parametrize("key", ["run_1", "run_1/a", "run_1/a/x", ""])
def test_a_malformed_key_is_kept_whole(key: str) -> None:
    """A malformed key from a stranger is shown unchanged, and breaks nothing."""
    assert attempt_fields(key) == {"run_id": key}


def test_a_dump_is_written_whatever_the_level_is() -> None:
    """Somebody asked for it."""
    stream = written("json", level="ERROR")
    logging.getLogger("nomaflow.kernel").warning("not shown")
    write_state({"runs": {"QUEUED": 1}})
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["state"] == {"runs": {"QUEUED": 1}}


def test_no_text_can_forge_a_line_of_a_text_log_or_steer_a_terminal() -> None:
    """A machine's name, an attempt's key or an exception from a stranger stays behind the record that tells of it."""
    stream = written("text")
    forged = "x\n2026-11-26 00:00:00.000 INFO     nomaflow: forged\x1b[2J\x1b]8;;http://evil\x07\r\u202e\udcff"
    log = logging.getLogger("nomaflow_host.session")
    log.warning("turned away: %s", forged, extra={"host": forged, **attempt_fields(f"{forged}/step\nx/1")})
    try:
        raise ValueError(forged)
    except ValueError:
        log.exception("failed")
    text = stream.getvalue()
    assert text.replace("\n", "").isprintable()
    records = [line for line in text.splitlines() if line[:1] != " "]
    assert [line[24:32] for line in records] == ["WARNING ", "ERROR   "]
    assert "host=x\\x0a2026-11-26" in text
    assert "    ValueError: x" in text.splitlines()
