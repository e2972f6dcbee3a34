"""A report that needs a library which the other team does not have."""

from __future__ import annotations

import datetime as dt
import tempfile
from pathlib import Path
from typing import Any

from openpyxl import Workbook


def write_spreadsheet(*, rows: int = 10, **_: Any) -> dict[str, Any]:
    """Write a spreadsheet of *rows* lines and return how large it is."""
    book = Workbook()
    for number in range(rows):
        book.active.append([dt.datetime.now(dt.UTC).date().isoformat(), number, number**2])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.xlsx"
        book.save(path)
        return {"rows_affected": rows, "bytes": path.stat().st_size}
