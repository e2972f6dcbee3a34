"""The scripts of the console as browsers get them."""

from __future__ import annotations

import gzip
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from machine_parts import need
from nomaflow_console.assets import BUNDLES, STATIC, _load

_OURS = sorted(file.relative_to(STATIC).as_posix() for file in (STATIC / "js").glob("*.js"))
_TEMPLATES = STATIC.parent / "templates"
_SCRIPT = re.compile(r"<script[^>]* src=\"\{\{ asset\('([^']+)'\) \}\}\"")
_WHOLE = '{% extends "base.html" %}'
_PAGES = sorted(file.name for file in _TEMPLATES.glob("*.html") if _WHOLE in file.read_text("utf-8"))


def _sent(name: str) -> bytes:
    return _load(name).body


def _packed(names: Iterable[str]) -> int:
    """Return how many bytes scripts are together, compressed."""
    return len(gzip.compress(b"\n".join(map(_sent, sorted(names))), 9))


def _scripts_of(page: str) -> set[str]:
    """Return our own scripts that a page loads: those of its template, of each page, and of live ones."""
    texts = [(_TEMPLATES / name).read_text("utf-8") for name in (page, "base.html", "parts/live.html")]
    loaded = [name for text in texts for name in _SCRIPT.findall(text)]
    return {file for name in loaded for file in BUNDLES.get(name, (name,)) if file in _OURS}


def test_our_own_scripts_are_small() -> None:
    """All of them together are at most 17 kB compressed."""
    assert _packed(_OURS) <= 17_000


def test_our_own_scripts_of_a_page_are_small() -> None:
    """The scripts of ours that a page loads are at most 15 kB compressed."""
    assert [page for page in _PAGES if _packed(_scripts_of(page)) > 15_000] == []


def test_each_script_is_one_of_a_page() -> None:
    """No script of ours escapes the bound of pages."""
    assert set().union(*map(_scripts_of, _PAGES)) == set(_OURS)


def test_a_script_is_no_longer_than_a_module() -> None:
    """The bound of 400 lines holds for scripts, too."""
    assert [name for name in _OURS if len((STATIC / name).read_text(encoding="utf-8").splitlines()) >= 400] == []


def test_a_page_needs_little() -> None:
    """Scripts and styles of the page with the most of both, that of a run, are at most 45 kB compressed."""
    names = ["log-bundle.js", "live-bundle.js", "js/keys.js", "js/times.js", "css/console.css", "css/run.css"]
    assert sum(len(gzip.compress(_sent(name), 9)) for name in names) <= 45_000


def test_what_is_sent_is_still_a_script(tmp_path: Path) -> None:
    """Without its comments each script has all of its code, and an engine can read it."""
    sent = [*_OURS, *(name for name in BUNDLES if name.endswith(".js"))]
    for name in sent:
        for source in BUNDLES.get(name, (name,)):
            text = (STATIC / source).read_text(encoding="utf-8")
            code = [line.strip().partition("; // ")[0] for line in text.splitlines()]
            plain = [line for line in code if line and not line.startswith(("//", "*")) and "/**" not in line]
            assert [line for line in plain if line.encode() not in _sent(name)] == [], name
        (tmp_path / name.replace("/", "-")).write_bytes(_sent(name))
    need("node")
    reading = """
        for (const name of require("fs").readdirSync(".")) {
          new (require("vm").SourceTextModule)(require("fs").readFileSync(name, "utf8"), {identifier: name});
        }"""
    command = ["node", "--experimental-vm-modules", "--eval", reading]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_script_makes_markup_of_text() -> None:
    """No script of ours writes HTML or runs text: what a program printed is never more than text."""
    words = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "srcdoc")
    scripts = {name: (STATIC / name).read_text(encoding="utf-8") for name in _OURS}
    assert [(name, word) for name, script in scripts.items() for word in words if word in script] == []
