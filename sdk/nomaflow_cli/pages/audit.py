"""Rows of the audit, one line each, and what a check of it has found."""

from __future__ import annotations

from rich.text import Text

from nomaflow.client.values import AuditRowView, AuditVerdictView
from nomaflow_cli.formatting import amount, count, moment, shortened
from nomaflow_telemetry.visible_text import printable


def audit_line(row: AuditRowView) -> Text:
    """Return a row as one line: when, who, what, to what, and what came of it."""
    line = Text.assemble(
        (f"{moment(row.at):<12} ", "dim"),
        f"{shortened(printable(row.principal), 20):<20} ",
        f"{shortened(printable(row.action), 17):<17} ",
        f"{shortened(printable(row.target), 36):<36} ",
        ("ok", "green") if row.outcome == "ok" else (printable(row.outcome), "red"),
    )
    if row.count > 1:
        line.append(f" ×{amount(row.count)}", style="red")
    more = [printable(text) for text in (row.correlation, row.note, row.address) if text]
    if more:
        line.append(f"  {' · '.join(more)}", style="dim")
    return line


def verdict_lines(found: AuditVerdictView, *, anchored: bool) -> str:
    """Return what a check has found.

    :param anchored: whether an anchor of the log was found in the chain
    """
    if found.bad_seq:
        return (
            f"✘ row {found.bad_seq}: {printable(found.problem)}\n"
            f"  {count(found.rows, 'row')} before it verify; the rows after it prove nothing"
        )
    if not found.rows:
        return "✔ there is no row to verify"
    lines = [
        f"✔ {count(found.rows, 'row')} verify, {found.first_seq} to {found.last_seq}",
        f"  anchor {found.last_seq}:{printable(found.last_hash)}",
    ]
    lines.append("  the anchor given is in the chain" if anchored else _HINT)
    return "\n".join(lines)


_HINT = "  anyone who can write the database can write the whole chain anew: compare an anchor of the log with --anchor"
