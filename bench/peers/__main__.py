"""Measures the product and its peers by turns, and writes their part of docs/performance.md.

python -m bench.peers [--only PEER,...] [--measures M1,M2,M3,R] [--rounds 7] [--fresh]
python -m bench.peers --scale 0.1 --rounds 3 --results .peers/trial.json     a quick trial; the page stays as it is
python -m bench.peers --page                                                 write the page from the figures kept
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from bench.peers.kept import MEASURES, Kept
from bench.peers.known import PEERS, Peer
from bench.peers.table import write_peers
from bench.peers.turns import take_turns

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "bench" / "results" / "peers.json"


def _chosen(names: str) -> Sequence[Peer]:
    wanted = {name.lower() for name in names.split(",") if name}
    unknown = wanted - {peer.name.lower() for peer in PEERS}
    if unknown:
        raise SystemExit(f"unknown peer {min(unknown)!r}; use some of {', '.join(peer.name for peer in PEERS)}")
    return [peer for peer in PEERS if not wanted or peer.name.lower() in wanted]


def _measures(names: str) -> Sequence[str]:
    wanted = [name for name in names.split(",") if name]
    if unknown := set(wanted) - set(MEASURES):
        raise SystemExit(f"unknown measure {min(unknown)!r}; use some of {', '.join(MEASURES)}")
    return wanted or MEASURES


def _stop(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)  # so that whatever was started is stopped and removed


def main() -> int:
    """Do what the command line says; return 1 where a peer could not be measured."""
    signal.signal(signal.SIGTERM, _stop)
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="peers, with commas")
    parser.add_argument("--measures", default="", help=f"some of {','.join(MEASURES)}")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the usual runs in a measure")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where figures are kept; rounds go on from there")
    parser.add_argument("--fresh", action="store_true", help="forget the figures kept of these peers")
    parser.add_argument("--page", action="store_true", help="only write docs/performance.md from the figures kept")
    options = parser.parse_args()
    peers, measures = _chosen(options.only), _measures(options.measures)
    complete = True
    if options.fresh:
        Kept.read(options.results).without(peers).write(options.results)
    if not options.page:
        complete = asyncio.run(take_turns(options.results, peers, measures, options.rounds, options.scale))
    if options.results == RESULTS:
        write_peers(Kept.read(RESULTS), docs=ROOT / "docs")
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
