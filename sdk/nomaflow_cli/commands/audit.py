"""``nomaflow audit``, ``audit verify`` and ``audit export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer
from msgspec.structs import replace

from nomaflow_cli import pages
from nomaflow_cli.audit_file import Anchor, new_file, verify_file, write_header, write_line
from nomaflow_cli.exit_codes import ExitCode
from nomaflow_cli.formatting import count
from nomaflow_cli.invocation import Invocation, command_group, names_subcommand, remote_command
from nomaflow_cli.kernel_access import first, similar, talk
from nomaflow_cli.options import argument, flag, option
from nomaflow_cli.output import answer, console, print_json_line
from nomaflow_cli.parsers import parse_moment
from nomaflow_telemetry.visible_text import printable

if TYPE_CHECKING:
    from nomaflow.client import KernelClient
    from nomaflow.client.values import AuditVerdictView

_GROUP = command_group("audit", "Show who changed what and what was refused.", runs_alone=True)


@remote_command(group=_GROUP)
def audit(
    *,
    context: typer.Context,
    invocation: Invocation,
    follow: bool = flag("Keep printing new rows.", "-f"),
    refused: bool = flag("Show only what was refused."),
    principal: str = option("Show only what this user, service or host:NAME did."),
    action: str = option("Show only this action, such as TriggerRun."),
    since: str = option("Show only rows since: a span such as 1h, or an ISO 8601 time."),
    tail: int = option("Number of rows, from the end; 0 shows all.", "-n", default=50, min=0, max=10_000),
) -> None:
    """Print the audit: every change and every refusal. With -o json, each row is one object."""
    if names_subcommand(context):
        return
    after = parse_moment(since, option="--since")

    async def ask(kernel: KernelClient) -> None:
        out = None if invocation.as_json else console()
        rows = kernel.read_audit(
            follow=follow, refused=refused, principal=principal, action=action, since=after, tail=tail
        )
        found = False
        async for row in rows:
            found = True
            if out is None:
                print_json_line(row.to_json())
            else:
                out.print(pages.audit.audit_line(row), soft_wrap=True)
        if not found and out is not None:
            known = {row.principal async for row in kernel.read_audit(tail=500)} if principal else set()
            console(stderr=True).print(f"no rows match{similar(principal, known)}")

    talk(invocation, ask, retry_seconds=300)


@remote_command("verify", group=_GROUP)
def verify(
    *,
    invocation: Invocation,
    file: Path | None = argument("A file of nomaflow audit export; default: the kernel's own audit.", default=None),
    anchor: str = option("SEQ:HASH from the kernel's log, which the chain must contain."),
) -> ExitCode:
    """Check the hash chain of the audit. Exits 1 and names the first row that does not fit."""
    expected = Anchor(anchor) if anchor else None
    found = verify_file(file, expected) if file is not None else talk(invocation, lambda kernel: _ask(kernel, expected))
    answer(invocation, found.to_json(), pages.audit.verdict_lines(found, anchored=expected is not None))
    return ExitCode.of(not found.bad_seq)


async def _ask(kernel: KernelClient, anchor: Anchor | None) -> AuditVerdictView:
    found = await kernel.verify_audit()
    if anchor is None or found.bad_seq:
        return found
    rows = await first(1, kernel.read_audit(after_seq=anchor.seq - 1)) if anchor.seq else []
    problem = anchor.problem(rows[0].hash if rows and rows[0].seq == anchor.seq else None)
    return replace(found, bad_seq=anchor.seq, problem=problem) if problem else found


@remote_command("export", group=_GROUP)
def export(
    *,
    invocation: Invocation,
    file: Path = argument("The new file; an existing file is not overwritten."),
) -> None:
    """Write the whole audit to a file, a row on each line; nomaflow audit verify FILE verifies it anywhere."""

    async def ask(kernel: KernelClient) -> tuple[int, str]:
        store_id, rows, newest = (await kernel.get_kernel()).store_id, 0, ""
        with new_file(file) as out:
            async for block in kernel.read_audit_blocks():
                if not rows:
                    after_seq = block.rows[0].seq - 1
                    write_header(out, store_id=store_id, after_seq=after_seq, before_hash=block.before_hash)
                for row in block.rows:
                    write_line(out, row.to_json())
                rows, newest = rows + len(block.rows), f"{block.rows[-1].seq}:{block.rows[-1].hash}"
            if not rows:
                write_header(out, store_id=store_id, after_seq=0, before_hash="")
        return rows, newest

    rows, newest = talk(invocation, ask)
    text = f"{printable(str(file))}: {count(rows, 'row')}" + (f"\nanchor {newest}" if newest else "")
    answer(invocation, {"file": str(file), "rows": rows, "anchor": newest or None}, text)
