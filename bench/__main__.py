"""Takes the measures and writes them down.

python -m bench all [--only GROUP,...] [--rounds 9]     measure, keep the figures, write docs/performance.md
python -m bench page                                    write docs/performance.md from the figures kept
python -m bench quick                                   compare ratios with bench/floors.toml; exit 1 where one is under
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.figures import described, in_words, machine
from bench.page import write_page

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results" / "bench.json"


def _kept() -> dict[str, Any]:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {"figures": {}, "growth": {}}


def _keep(results: dict[str, Any]) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    results |= {"machine": machine(), "taken": datetime.now(UTC).date().isoformat()}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    write_page(results, docs=ROOT / "docs")


def measure(groups: list[str], rounds: int) -> None:
    """Take the groups one after the other; what is measured is kept and shown at once."""
    from bench.measures import GROUPS, GROWTHS  # what it needs is not installed where only the page is written

    unknown = set(groups) - {*GROUPS, *GROWTHS}
    if unknown:
        raise SystemExit(f"unknown group {min(unknown)!r}; use some of {', '.join([*GROUPS, *GROWTHS])}")
    for name in groups or [*GROUPS, *GROWTHS]:
        began, load, results = time.monotonic(), os.getloadavg()[0], _kept()
        if name in GROUPS:
            found = asyncio.run(GROUPS[name](rounds))
            results["figures"].update({key: described(values) for key, values in found.items()})
            told = ", ".join(f"{key} {in_words(described(values)['median'])}" for key, values in found.items())
        else:
            results["growth"][name] = asyncio.run(GROWTHS[name]())
            told = json.dumps(results["growth"][name])
        results.setdefault("load", {})[name] = round(load, 1)
        _keep(results)
        print(f"{name} ({time.monotonic() - began:.0f} s, load {load:.1f} before): {told}", flush=True)


def _stop(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)  # so that whatever was started is stopped and removed


def main() -> int:
    """Do what the command line says; return the exit code."""
    signal.signal(signal.SIGTERM, _stop)
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    everything = commands.add_parser("all", help="measure and write the page")
    everything.add_argument("--only", default="", help="groups of measures, with commas")
    everything.add_argument("--rounds", type=int, default=9)
    commands.add_parser("page", help="write docs/performance.md from the figures kept")
    commands.add_parser("quick", help="compare ratios with the recorded floors")
    options = parser.parse_args()
    if options.command == "quick":
        from bench.gate import gate

        return asyncio.run(gate())
    if options.command == "all":
        measure([one for one in options.only.split(",") if one], options.rounds)
    else:
        write_page(_kept(), docs=ROOT / "docs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
