"""``nomaflow audit``: rows for people and programs, and a chain that is verified with and without a kernel."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cli_command import Command
from fake_kernel import FakeKernel
from nomaflow_api.audit_chain import CHAINED_FIELDS, row_hash
from nomaflow_api.v1 import access_service_pb2 as access
from nomaflow_cli.audit_file import new_file
from nomaflow_cli.errors import CliError

T0 = 1_790_000_000_123_456


def fill(kernel: FakeKernel, count: int, *, after: int = 0, before: str = "") -> None:
    """Give the fake kernel a chain of rows."""
    kernel.audit.before_hash = before
    for seq in range(after + 1, after + count + 1):
        facts: dict[str, Any] = {
            "seq": seq, "at_us": T0 + seq, "principal": "anna", "address": "ipv4:10.0.0.7", "action": "TriggerRun",
            "target": "job:ü\x1b[2J", "outcome": "ok", "note": "", "correlation": f"run_{seq}", "count": 1,
        }  # fmt: skip
        before = row_hash(before, [facts[name] for name in CHAINED_FIELDS])
        row = access.AuditRow(hash=before, **{name: value for name, value in facts.items() if name != "at_us"})
        row.at.FromMicroseconds(facts["at_us"])
        kernel.audit.rows.append(row)


async def test_rows_for_people(kernel: FakeKernel, command: Command) -> None:
    """A row is a line that cannot control a terminal; a refusal says how often."""
    fill(kernel, 2)
    refused = kernel.audit.rows[1]
    refused.principal, refused.outcome, refused.count, refused.correlation = "anyone", "UNAUTHENTICATED", 1999, ""
    done = await command("audit", "--address", kernel.address)
    first, second = done.out.splitlines()
    assert done.code == 0
    assert "\x1b" not in done.out
    assert "job:ü\\x1b[2J" in first
    assert "UNAUTHENTICATED ×1,999" in second


async def test_options_are_the_request_s(kernel: FakeKernel, command: Command) -> None:
    """Each option narrows the same question; by default the last 50 rows are shown."""
    await command("audit", "--address", kernel.address)
    await command(
        "audit", "-f", "--refused", "--principal", "anna", "--action", "CancelRun", "-n", "0",
        "--since", "2026-11-26T08:00:00Z", "--address", kernel.address,
    )  # fmt: skip
    plain, narrow, _ = kernel.audit.requests  # the last looks for similar names, since nothing was found
    assert plain == access.ReadAuditRequest(tail=50)
    expected = access.ReadAuditRequest(follow=True, refused=True, principal="anna", action="CancelRun")
    expected.since.FromJsonString("2026-11-26T08:00:00Z")
    assert narrow == expected


async def test_a_span_before_now_begins_the_rows(kernel: FakeKernel, command: Command) -> None:
    """As it does for events and runs."""
    begun = datetime.now(UTC)
    done = await command("audit", "--since", "1h", "--address", kernel.address)
    [asked] = kernel.audit.requests
    assert done.code == 0
    assert timedelta(hours=-1) <= asked.since.ToDatetime(UTC) - begun <= timedelta(minutes=-59)


async def test_rows_for_programs(kernel: FakeKernel, command: Command) -> None:
    """With -o json each row is an object with the fields of docs/cli.md; a broken stream continues at its place."""
    fill(kernel, 5)
    kernel.audit.break_after = 3
    done = await command("audit", "-o", "json", "-n", "0", "--address", kernel.address)
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [row["seq"] for row in rows] == [1, 2, 3, 4, 5]
    assert rows[0]["at"] == "2026-09-21T14:13:20.123457Z"
    assert set(rows[0]) == {*CHAINED_FIELDS, "hash", "at"} - {"at_us"}


async def test_verify_asks_the_kernel(kernel: FakeKernel, command: Command) -> None:
    """A chain that holds exits 0; a broken one exits 1 and names the first bad row."""
    kernel.audit.verdict = access.VerifyAuditResponse(rows=7, first_seq=1, last_seq=7, last_hash="ab" * 32)
    done = await command("audit", "verify", "--address", kernel.address)
    assert (done.code, done.out.startswith("✔ 7 rows verify, 1 to 7\n  anchor 7:abab")) == (0, True)
    kernel.audit.verdict = access.VerifyAuditResponse(rows=3, first_seq=1, last_seq=3, bad_seq=4, problem="it is bad")
    done = await command("audit", "verify", "--address", kernel.address)
    assert (done.code, done.out.splitlines()[0]) == (1, "✘ row 4: it is bad")
    done = await command("audit", "verify", "--address", kernel.address, "-o", "json")
    found = json.loads(done.out)
    assert (done.code, found["bad_seq"], found["problem"], found["rows"]) == (1, 4, "it is bad", 3)


async def test_verify_compares_an_anchor_of_the_log(kernel: FakeKernel, command: Command) -> None:
    """A chain that was written anew as a whole holds, and does not have the hash that the log has told."""
    fill(kernel, 7)
    kernel.audit.verdict = access.VerifyAuditResponse(rows=7, first_seq=1, last_seq=7, last_hash="ab" * 32)
    right = f"4:{kernel.audit.rows[3].hash}"
    for anchor, code in ((right, 0), (f"4:{'0' * 64}", 1), (f"9:{'0' * 64}", 1), ("4:abc", 2), ("x", 2)):
        done = await command("audit", "verify", "--anchor", anchor, "--address", kernel.address)
        assert done.code == code, (anchor, done)


async def exported(kernel: FakeKernel, command: Command, path: Path) -> list[str]:
    """Return the lines of an export."""
    done = await command("audit", "export", str(path), "--address", kernel.address)
    assert done.code == 0, done
    assert path.stat().st_mode & 0o777 == 0o600
    return path.read_text().splitlines()


async def test_an_export_is_verified_without_a_kernel(kernel: FakeKernel, command: Command, tmp_path: Path) -> None:
    """A whole export verifies anywhere, that of an audit whose oldest rows are gone too; no file is overwritten."""
    fill(kernel, 6, after=10, before="cd" * 32)
    lines = await exported(kernel, command, tmp_path / "audit.jsonl")
    assert len(lines) == 7
    again = await command("audit", "export", str(tmp_path / "audit.jsonl"), "--address", kernel.address)
    assert again.code == 2
    await kernel.stop()
    done = await command(
        "audit", "verify", str(tmp_path / "audit.jsonl"), "--anchor", f"16:{kernel.audit.rows[5].hash}"
    )
    assert (done.code, done.out.splitlines()[0]) == (0, "✔ 6 rows verify, 11 to 16")
    done = await command("audit", "verify", str(tmp_path / "audit.jsonl"), "--anchor", f"17:{'0' * 64}")
    assert done.code == 1


def _swap(lines: list[str]) -> list[str]:
    return [*lines[:3], lines[4], lines[3], *lines[5:]]


TAMPERED: dict[str, tuple[Callable[[list[str]], list[str]], int]] = {
    "a changed row": (lambda lines: [*lines[:3], lines[3].replace("anna", "eve"), *lines[4:]], 3),
    "a removed row": (lambda lines: lines[:3] + lines[4:], 3),
    "a removed first row": (lambda lines: lines[:1] + lines[2:], 1),
    "rows in another order": (_swap, 3),
    "a row twice": (lambda lines: [*lines[:4], lines[3], *lines[4:]], 4),
    "half a line": (lambda lines: [*lines[:3], lines[3][:40]], 3),
    "no row": (lambda lines: [*lines[:3], "[" * 100_000, *lines[4:]], 3),
}


@pytest.mark.parametrize("what", TAMPERED)
async def test_a_changed_export_is_found(kernel: FakeKernel, command: Command, tmp_path: Path, what: str) -> None:
    """The first row of a file that does not fit is named."""
    fill(kernel, 6)
    lines = await exported(kernel, command, tmp_path / "audit.jsonl")
    change, bad_seq = TAMPERED[what]
    (tmp_path / "other.jsonl").write_text("\n".join(change(lines)) + "\n")
    done = await command("audit", "verify", str(tmp_path / "other.jsonl"), "-o", "json")
    assert (done.code, json.loads(done.out)["bad_seq"]) == (1, bad_seq)


@pytest.mark.parametrize("text", ["", "{}", "[1]", "\x00\xff", '{"nomaflow_audit": 1}', "null\n", "[" * 100_000,
                                  '{"nomaflow_audit": 1, "after_seq": Infinity, "before_hash": ""}'])  # fmt: skip
async def test_another_file_is_no_export(command: Command, tmp_path: Path, text: str) -> None:
    """A file of another kind is refused in one line, without a traceback."""
    (tmp_path / "other").write_text(text)
    done = await command("audit", "verify", str(tmp_path / "other"))
    assert (done.code, "is no export of an audit" in done.err, "Traceback" in done.err) == (2, True, False)


def test_an_export_that_finds_no_room_names_its_file_and_leaves_nothing(tmp_path: Path) -> None:
    """As on a full disk; standard output is not to blame."""
    file, before = tmp_path / "audit.jsonl", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(CliError, match=f"cannot write '{file}': File too large") as told, new_file(file) as out:
            out.write("a row of the audit\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (told.value.fix, file.exists()) == ("name a file on a disk with enough free space", False)
