"""Measures what it takes to move a history of a million events to another database, and back.

    python -m bench.store_copy [--runs 167000]

The runs are those of bench.store_size, six events each, one in ten with log lines. The copies are made by the command's
own tool, in a process of its own, whose largest memory is told; the server is one of the suite's, with durable commits.
Prints one JSON object and keeps it in bench/results/store_copy.json.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.figures import machine
from bench.store_size import write_history
from nomaflow_kernel.store.sql_store import open_store

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from postgres_server import PostgresServer

RESULTS = Path(__file__).parent / "results" / "store_copy.json"
_LINES = 20
_DATABASE = "postgres"


def move(source: str, target: str) -> dict[str, Any]:
    """Move a history and return seconds, rows, rows a second and the largest memory of the process in MiB."""
    command = [sys.executable, "-m", "nomaflow_kernel.upkeep", "copy", source, "--to", target]
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert child.stdout is not None
    done = json.loads(child.stdout.read())["done"]
    _, _, used = os.wait4(child.pid, 0)
    rows = sum(done["rows"].values())
    return {
        "seconds": round(done["seconds"], 1),
        "events": done["rows"]["events"],
        "rows": rows,
        "rows_a_second": round(rows / done["seconds"]),
        "peak_mib": round(used.ru_maxrss / 1024),
    }


async def fill(url: str, runs: int) -> None:
    """Write a history."""
    store = open_store(url)
    await store.open()
    await write_history(store, runs=runs * 9 // 10, logged=runs // 10, lines=_LINES)
    await store.close()


def main() -> None:
    """Measure, keep the figures and print them."""
    parser = argparse.ArgumentParser(prog="python -m bench.store_copy")
    parser.add_argument("--runs", type=int, default=167_000)
    given = parser.parse_args()
    server = PostgresServer()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        stack.callback(server.stop)
        server.start(durable=True)
        first, last = Path(folder) / "first.db", Path(folder) / "last.db"
        asyncio.run(fill(f"sqlite:///{first}", given.runs))
        figures = {
            "sqlite_bytes": first.stat().st_size,
            "sqlite_to_postgresql": move(f"sqlite:///{first}", server.url(_DATABASE)),
            "postgresql_to_sqlite": move(server.url(_DATABASE), f"sqlite:///{last}"),
        }
    result = json.dumps({"machine": machine(), "figures": figures}, indent=1)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(result + "\n")
    print(result)


if __name__ == "__main__":
    main()
