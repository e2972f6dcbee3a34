"""The page compares the product with every peer there is a program for, by ratios of turns."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from bench.peers import serving
from bench.peers.bars import drawn
from bench.peers.installing import why_not
from bench.peers.kept import Kept, Turn
from bench.peers.known import FUNCTIONS, HERE, PEERS, versions
from bench.peers.table import medians, ratio, write_peers

ROOT = Path(__file__).parents[3]
MARKS = "".join(f"<!-- generated: {name} -->\n<!-- end of {name} -->\n" for name in ("peers", "setups", "real step"))


def _rounds(count: int, peer: str) -> Kept:
    """Return a peer that is half as fast as the product in the first round, and slower in each one after it."""
    figures = {"M1": 1000.0, "M1 CPU": 0.5, "M2 p50": 4.0, "M2 p99": 8.0}
    ours = {**figures, "M1u": 1500.0, "M3": 500.0, "R": 50.0}
    slower = [{"M1": 500 / n, "M1 CPU": 0.5 * n, "M2 p50": 8.0 * n, "M2 p99": 16.0 * n} for n in range(1, count + 1)]
    turns = [Turn(ours=ours, theirs=theirs) for theirs in slower]
    sizes = {"M1": 10, "M2": 10, "M3": 200, "R": 10}
    return Kept(sizes=sizes, rounds=[{peer: turn} for turn in turns], missing={"Huey": "no disk"}, taken="today")


def test_a_ratio_is_the_median_of_the_ratios_of_the_rounds() -> None:
    """More runs and less time are both faster; a round without the figure does not count."""
    turns = [
        Turn(ours={"M1": 90.0, "M2 p50": 2.0}, theirs={"M1": 30.0, "M2 p50": 1.0}),
        Turn(ours={"M1": 10.0, "M2 p50": 2.0}, theirs={"M1": 10.0, "M2 p50": 8.0}),
        Turn(ours={"M1": 80.0, "M2 p50": 2.0}, theirs={"M1": 40.0}),
    ]
    assert ratio(turns, "M1") == 2.0  # that of the medians would be 80 to 30
    assert ratio(turns, "M2 p50") == (0.5 + 4.0) / 2
    assert ratio(turns, "M3") is None
    assert medians([turn.theirs for turn in turns]) == {"M1": 30.0, "M2 p50": 4.5}


def test_the_table_names_every_peer_and_why_one_is_not_measured(tmp_path: Path) -> None:
    """A peer without figures has dashes; its reason stands before the table."""
    (tmp_path / "performance.md").write_text(MARKS)
    write_peers(_rounds(3, "BullMQ"), docs=tmp_path)
    page = (tmp_path / "performance.md").read_text()
    assert "| BullMQ | 250 (4×) | 1 (2×) | 16 (4×) | 32 (4×) | – | 6× |" in page
    assert "| Huey | – | – | – | – | – | – |" in page
    assert "Huey is not measured: no disk." in page
    assert "| DBOS | – | – |" in page.partition("real step")[2]
    assert ">4×<" in (tmp_path / "peers.svg").read_text()


def test_bars_point_to_the_better_side() -> None:
    """A bar begins at 1; below it has another colour."""
    picture = drawn({"M1": {"fast": 16.0, "slow": 0.5}})
    bars = re.findall(r'<rect x="([\d.]+)" y="\d+" width="([\d.]+)" height="12" fill="(#\w+)"/>', picture)
    (one, right, blue), (left, width, red) = bars
    assert float(left) + float(width) == pytest.approx(float(one), abs=0.2)
    assert float(right) == pytest.approx(4 * float(width), abs=0.2)
    assert blue != red


def test_every_program_is_a_peer_and_every_peer_is_on_the_page() -> None:
    """The programs, the list, the pinned packages and the page name the same peers."""
    programs = {path.name for path in (HERE / "programs").iterdir() if path.suffix in {".py", ".cjs"}}
    helpers = {"__init__.py", "asked.py", "asked.cjs", "real_step.py", "bullmq_worker.cjs"}
    assert {peer.program for peer in PEERS} == programs - helpers
    assert {peer.package for peer in PEERS} <= set(versions())
    page = (ROOT / "docs" / "performance.md").read_text()
    table = page.partition("<!-- generated: peers -->")[2].partition("<!-- end of peers -->")[0]
    rows = [name for name in re.findall(r"^\| ([\w-]+) \|", table, re.MULTILINE) if name != "Nomaflow"]
    assert rows == [peer.name for peer in PEERS]


def test_every_program_has_a_function_for_each_of_its_measures() -> None:
    """A measure is listed where the program can take it, and only there."""
    for peer in PEERS:
        text = (HERE / "programs" / peer.program).read_text()
        found = {
            name
            for name, function in FUNCTIONS.items()
            if re.search(rf"^(async )?(def|function) {function}\(", text, re.M)
        }
        assert found == peer.measures, peer.name


def test_the_page_holds_the_ratios_that_are_kept(tmp_path: Path) -> None:
    """Writing the page again from the kept figures changes neither the page nor the plot."""
    shutil.copy(ROOT / "docs" / "performance.md", tmp_path)
    write_peers(Kept.read(ROOT / "bench" / "results" / "peers.json"), docs=tmp_path)
    for name in ("performance.md", "peers.svg"):
        assert (tmp_path / name).read_text() == (ROOT / "docs" / name).read_text(), "run: python -m bench.peers --page"


def test_a_machine_without_node_leaves_its_peers_out_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that cannot be installed has its reason, with the way out."""
    monkeypatch.setenv("PATH", str(tmp_path))
    of_node = [peer for peer in PEERS if peer.language == "node"]
    reasons = why_not(of_node)
    assert set(reasons) == {"BullMQ", "graphile-worker"}
    assert all("install Node.js" in reason for reason in reasons.values())


async def test_a_peer_that_ends_is_told_by_name_with_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that cannot start is reported by name with its log, and leaves no file."""
    (tmp_path / "venv").symlink_to(sys.prefix)  # where the product is installed and no peer is
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(serving, "FOLDER", tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    huey = next(peer for peer in PEERS if peer.name == "Huey")
    with pytest.raises(serving.PeerFailed, match=r"(?s)^Huey did not answer its start; .*No module named 'huey'"):
        async with serving.served(huey):
            pass
    assert not list((tmp_path / "tmp").iterdir())


def test_rounds_go_on_where_they_were(tmp_path: Path) -> None:
    """Figures come back from their file, and a turn lacks only what was not taken in it."""
    kept = _rounds(2, "BullMQ")
    kept.write(tmp_path / "peers.json")
    again = Kept.read(tmp_path / "peers.json")
    assert again == kept
    bullmq = PEERS[0]
    assert again.turns("BullMQ")[0].lacks(bullmq, ["M1", "M2", "M3", "R"]) == ["M3"]
    assert again.without(PEERS[1:]) == kept
    assert not any(again.without([bullmq]).rounds)
    assert Kept.read(tmp_path / "none.json") == Kept()
