"""Takes turns: the product, then a peer, each alone on the machine; what is measured is kept after each turn."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
import psycopg

from bench.peers.installing import why_not
from bench.peers.kept import SIZES, Figures, Kept, Turn
from bench.peers.known import Peer, versions
from bench.peers.product import Product, product
from bench.peers.serving import PeerFailed, postgres, served

__all__ = ["take_turns"]

_WARM = {"M1": 200, "M1u": 200, "M2": 20, "M3": 20, "R": 50}
"""Runs or steps before each measure, so that connections and workers are there."""


async def _all(take: Callable[[str, int], Awaitable[Figures]], sizes: Mapping[str, int]) -> Figures:
    """Return the figures of several measures, with the processor time of everything that we started."""
    found: Figures = {}
    for measure, size in sizes.items():
        await take(measure, _WARM[measure])
        before = _processor_seconds()
        found |= await take(measure, size)
        found[f"{measure} CPU"] = (_processor_seconds() - before) / size * 1000
    return found


def _processor_seconds() -> float:
    """Return the processor time of this process and all below it, those included that have ended."""
    this, total = psutil.Process(), 0.0
    for one in (this, *this.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile, and counts as its parent's
            total += sum(one.cpu_times()[:4])
    return total


async def take_turns(file: Path, peers: Sequence[Peer], measures: Sequence[str], rounds: int, scale: float) -> bool:
    """Take the turns that are still to be taken, and return whether every peer could be measured.

    :raises SystemExit: where the figures kept are of other sizes
    """
    kept = Kept.read(file)
    sizes = {name: size if name == "M3" else max(int(size * scale), 10) for name, size in SIZES.items()}
    if any(kept.rounds) and (kept.sizes, kept.versions) != (sizes, versions()):
        raise SystemExit(f"{file} has figures of other sizes or versions; measure anew with --fresh")
    kept.sizes, kept.versions = sizes, versions()
    kept.missing = {name: why for name, why in kept.missing.items() if name not in {peer.name for peer in peers}}
    kept.missing |= why_not(peers)
    kept.write(file)
    for name, why in kept.missing.items():
        print(f"{name} is left out: {why}")
    kept.rounds += [{} for _ in range(rounds - len(kept.rounds))]
    ahead = list(_ahead(kept, peers, measures, rounds))
    minutes = sum(kept.expected(peer.name) for _, peer in ahead) / 60
    print(f"{len(ahead)} turns in {rounds} rounds: about {minutes:.0f} minutes on a quiet machine", flush=True)
    if ahead:
        async with _rows(), product() as ours:
            for number, peer in ahead:
                if peer.name not in kept.missing:
                    await _turn(kept, number, peer, measures, ours)
                    kept.write(file)
    return not kept.missing


def _ahead(kept: Kept, peers: Sequence[Peer], measures: Sequence[str], rounds: int) -> Iterator[tuple[int, Peer]]:
    """Yield the turns to take, round by round."""
    for number in range(rounds):
        for peer in peers:
            turn = kept.rounds[number].get(peer.name, Turn())
            if peer.name not in kept.missing and turn.lacks(peer, measures):
                yield number, peer


async def _turn(kept: Kept, number: int, peer: Peer, measures: Sequence[str], ours: Product) -> None:
    """Take one turn; a peer that fails is left out from then on, by name."""
    began, load = time.monotonic(), os.getloadavg()[0]
    turn = kept.rounds[number].get(peer.name, Turn())
    lacking = turn.lacks(peer, measures)

    sizes = {measure: kept.sizes[measure] for measure in lacking}

    async def our_part() -> Figures:
        return await _all(ours.take, sizes | ({"M1u": sizes["M1"]} if "M1" in sizes else {}))

    async def their_part() -> Figures:
        async with served(peer) as up:
            return await _all(up.take, sizes)

    try:  # each is first in every other round
        if number % 2:
            theirs, mine = await their_part(), await our_part()
        else:
            mine, theirs = await our_part(), await their_part()
    except PeerFailed as error:
        print(error, flush=True)
        kept.missing[peer.name] = str(error).partition(";")[0]
        return
    turn.ours |= mine
    turn.theirs |= theirs
    turn.seconds, turn.load = round(time.monotonic() - began, 1), round(load, 1)
    kept.rounds[number][peer.name] = turn
    told = ", ".join(f"{name} {theirs[name]:,.1f} ({mine[name]:,.1f})" for name in theirs)
    print(f"round {number + 1}, {peer.name} (ours), {turn.seconds:.0f} s, load {load:.1f}: {told}", flush=True)


@asynccontextmanager
async def _rows() -> AsyncIterator[None]:
    """Start the server that the real step reads from; its URL is in the environment of all that is started."""
    async with postgres() as server:
        os.environ["REAL_STEP_URL"] = url = server.url("postgres").replace("+asyncpg", "+psycopg")
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute("CREATE TABLE things (id int PRIMARY KEY, name text)")
            connection.execute("INSERT INTO things SELECT n, 'thing ' || n FROM generate_series(1, 1000) n")
        yield
