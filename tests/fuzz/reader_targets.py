"""Readers of files and of received texts, each fed whatever the choices make. Any exception but the named ones is a bug."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import tempfile
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from choices import Choices
from hostile_inputs import damaged, json_text, letter, line, manifest, some_text, value

from nomaflow_api.join_string import JoinString, JoinStringError
from nomaflow_api.v1 import sealing
from nomaflow_api.v1.log_lines import LogChunkError, decode_line, split_lines
from nomaflow_api.v1.lossless_json import ValueCodecError, loads, loads_plain
from nomaflow_kernel.access.grants import Grant, Scope, grants_of_role
from nomaflow_kernel.domain.errors import BadRequest
from nomaflow_kernel.hosts.manifest import open_manifest
from nomaflow_project.check.project import check_project
from nomaflow_project.cron import CronError, CronExpression, zone
from nomaflow_project.jobs.load import load_manifest
from nomaflow_project.models.roles import GrantError
from nomaflow_project.reading.callable_references import reference_error
from nomaflow_project.reading.env_files import project_variables
from nomaflow_project.reading.work_time import OutOfTime, working_time
from nomaflow_telemetry.trace_context import TraceContext
from nomaflow_telemetry.visible_text import first_line, paragraph, printable, visible

__all__ = ["READERS"]

_TOML = [
    "[[jobs]]\n", 'id = "a"\n', "[meta]\n", "[host]\n", "[kernel]\n", "[app]\n", "[pools.x]\n", "[connectors.y]\n", "[[jobs.steps]]\n",
    'type = "python"\n', 'callable = "m:f"\n', 'schedule = "0 3 * * *"\n', 'url = "sqlite:///x"\n', "params = { a = 1 }\n",
    "op_kwargs = { b = [1, 2, { c = 3 }] }\n", 'name = "n"\n', "enabled = true\n", 'env_file = "e"\n', 'type = "api"\n',
    'base_url = "http://h"\n', "auth = { type = 'bearer', token = '${T}' }\n", "x = inf\n", "x = 1979-05-27T07:32:00Z\n",
    "[[jobs.presets]]\n", 'tags = ["a"]\n', "retry = { attempts = 2 }\n", "step_defaults = { a = 1 }\n", "[[connectors.y.queries]]\n",
    'x = """\n', "a.b.c = 1\n", "timezone = 'Europe/Paris'\n", 'target_job_id = "a"\n', "max_parallel = 3\n", "# comment\n",
]  # fmt: skip
_NAMES = ("jobs.toml", "nomaflow.toml", "connectors.toml", "e", "plugins/a/jobs.toml")


def _toml(choices: Choices) -> bytes:
    parts = [choices.pick(_TOML) if choices.chance(85) else some_text(choices) for _ in range(1 + choices.number(20))]
    body = "".join(parts).encode("utf-8", "replace")
    return damaged(choices, body) if choices.chance(40) else body


def _files(choices: Choices) -> None:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        root = Path(folder)
        (root / "plugins" / "a").mkdir(parents=True)
        for name in _NAMES:
            if choices.chance(70):
                (root / name).write_bytes(_toml(choices))
        with contextlib.suppress(OutOfTime), working_time(20):
            report = check_project(root, environ={"T": some_text(choices)}, from_original=choices.chance(30))
            assert json.dumps(report.to_json(), allow_nan=False)
            assert all(str(problem) for problem in report.all_problems())


def _env_file(choices: Choices) -> None:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        parts = ["A=1\n", "export B = 'x\n'\n", 'C="a\\n"\n', "# x\n", "D=\n", "=\n", "'", '"', "E=${A}\n", "\\"]
        body = "".join(choices.pick(parts) for _ in range(choices.number(30))).encode()
        (Path(folder) / "e").write_bytes(damaged(choices, body))
        found = project_variables(Path(folder), {"host": {"env_file": ["e", some_text(choices)]}}, {})
        assert all(isinstance(each, str) for each in found.given.values())


def _cron(choices: Choices) -> None:
    pieces = [
        "*",
        "*/5",
        "0",
        "1-5",
        "MON",
        "L",
        "?",
        "@daily",
        "1,2",
        "60",
        "W",
        "#",
        "-1",
        "999999",
        "0-59/7",
        " ",
        "\t",
        "é",
    ]
    text = (
        " ".join(choices.pick(pieces) for _ in range(choices.number(8))) if choices.chance(80) else some_text(choices)
    )
    with contextlib.suppress(CronError):
        expression = CronExpression.parse(text)
        expression.next_after(
            datetime(2026, 1, 1, tzinfo=UTC), zone(choices.pick(("UTC", "Europe/Paris", "America/Caracas")))
        )
    with contextlib.suppress(CronError):
        zone(some_text(choices))


def _reference(choices: Choices) -> None:
    said = reference_error(some_text(choices) + choices.pick(("", ":", ":f", ".g:h")))
    assert said is None or said


def _values(choices: Choices) -> None:
    text = json_text(choices).decode("utf-8", "replace")
    for read in (loads, loads_plain):
        with contextlib.suppress(ValueCodecError):
            read(text, path="x")


def _lines(choices: Choices) -> None:
    body = b"\n".join(line(choices) for _ in range(1 + choices.number(5)))
    for each in body.splitlines():
        with contextlib.suppress(LogChunkError):
            decode_line(each).message_bytes  # noqa: B018  # computed
    with contextlib.suppress(LogChunkError):
        packed = damaged(choices, zlib.compress(body)) if choices.chance(50) else zlib.compress(body)
        list(map(decode_line, split_lines(packed, compressed=True)))


def _letters(choices: Choices) -> None:
    body = letter(choices)
    for name, opened in vars(sealing).items():
        if name.startswith("open_"):
            with contextlib.suppress(sealing.LetterError):
                opened(body)
    sealing.fitting(some_text(choices)).encode()


def _manifest(choices: Choices) -> None:
    body = manifest(choices, "team")
    digest = "sha256:" + hashlib.sha256(body).hexdigest()
    with contextlib.suppress(BadRequest, OutOfTime), working_time(20):
        tree, _ = open_manifest(zlib.compress(body), digest=digest, host="team")
        load = load_manifest(tree)
        again = load_manifest(tree, before=load)
        assert json.dumps(again.to_json(compact=True))


def _texts(choices: Choices) -> None:
    text = some_text(choices) + choices.blob(choices.number(30)).decode("utf-8", "surrogateescape")
    assert printable(text).replace("\t", "").isprintable() or not text.isprintable()
    for shown in (printable(text), paragraph(text, indent=2), first_line(text), visible(text)):
        assert not any(ord(each) < 0x20 and each not in "\n\t" for each in shown)
        shown.encode()
    TraceContext.parse(text)


def _join_string(choices: Choices) -> None:
    made: dict[str, object] = {
        "v": 1, "at": ["tls://127.0.0.1:7072"], "ca": ["AAAA"], "kind": "host", "name": "teamb", "secret": "s",
    }  # fmt: skip
    if choices.chance(70):
        made[choices.pick(list(made))] = value(choices)
    body = base64.urlsafe_b64encode(json_text(choices, made))
    text = "nfj1." + (damaged(choices, body) if choices.chance(30) else body).decode("latin-1")
    with contextlib.suppress(JoinStringError):
        assert JoinString.decode(text).encode()
    with contextlib.suppress(JoinStringError):
        JoinString.decode(some_text(choices))


def _grants(choices: Choices) -> None:
    words = ["read", "trigger", "admin", "job:a*", "host:b", "tag:t", "*", "job:", " ", "viewer", some_text(choices)]
    text = " ".join(choices.pick(words) for _ in range(choices.number(4)))
    for parse in (Grant.parse, Scope.parse, grants_of_role):
        with contextlib.suppress(GrantError):
            parse(text)


READERS: Mapping[str, Callable[[Choices], None]] = {
    "files": _files,
    "env_file": _env_file,
    "cron": _cron,
    "reference": _reference,
    "values": _values,
    "lines": _lines,
    "letters": _letters,
    "manifest": _manifest,
    "texts": _texts,
    "join_string": _join_string,
    "grants": _grants,
}
"""Name of a reader → the function that feeds it one input."""
