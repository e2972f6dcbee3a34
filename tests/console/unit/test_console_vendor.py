"""The files of others that browsers get: exactly those of the list, unchanged, and nothing from elsewhere."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import nomaflow_console

PACKAGE = Path(nomaflow_console.__file__).parent
VENDOR = PACKAGE / "static" / "vendor"
ROW = re.compile(
    r"^\| `(?P<file>[^`]+)` \| (?P<package>\S+) (?P<version>\S+) \| (?P<licence>[^|]+) \| `(?P<digest>\w{64})` \|$"
)


def test_each_file_of_others_is_the_one_of_the_list() -> None:
    """Name and SHA-256 of every file in static/vendor are in its README, and the README names no other."""
    rows = [found for line in (VENDOR / "README.md").read_text().splitlines() if (found := ROW.fullmatch(line))]
    listed = {row["file"]: row["digest"] for row in rows}
    there = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VENDOR.iterdir()
        if path.name != "README.md"
    }
    assert listed == there


def test_nothing_is_loaded_from_elsewhere() -> None:
    """No template, style or script of ours names another origin to load from."""
    ours = [*PACKAGE.glob("templates/**/*"), *PACKAGE.glob("static/js/*"), *PACKAGE.glob("static/css/*")]
    found = {
        (path.name, match[0])
        for path in ours
        if path.is_file()
        for match in re.finditer(r"""(?:src|href|url|import|fetch)\W{1,3}(?:https?:)?//[^"')\s]+""", path.read_text())
    }
    assert not found


def test_nothing_needs_what_the_policy_forbids() -> None:
    """No template has a script or a style of its own, a handler in an attribute, or what htmx would evaluate."""
    forbidden = re.compile(r"""<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=|hx-on|\bjs:|javascript:""")
    found = {
        (path.name, match[0])
        for path in PACKAGE.glob("templates/**/*.html")
        for match in forbidden.finditer(path.read_text())
    }
    assert not found


def test_each_page_brings_only_icons_that_some_page_shows() -> None:
    """The sprite is part of every page."""
    sprite = (PACKAGE / "templates" / "parts" / "icons.svg").read_text()
    named = "".join(path.read_text() for kind in ("*.html", "*.py") for path in PACKAGE.rglob(kind))
    icons = re.findall(r'<symbol id="i-([\w-]+)"', sprite)
    assert len(icons) > 20
    assert [name for name in icons if not re.search(rf"""["']{name}["']""", named)] == []
