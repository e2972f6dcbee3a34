"""Pages of docs/ that must say what the code does."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from nomaflow_host.generation.manifest import IMPORT_FIX
from nomaflow_kernel.history.reason_texts import REASONS
from nomaflow_kernel.history.states import ATTEMPT_TRANSITIONS, RUN_TRANSITIONS, AttemptState, RunState
from nomaflow_project.check.project import check_project

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
AUTHOR_PAGES = ("plugin_guide.md", "hooks.md", "migrating.md")
"""Pages whose examples run in test_author_documents.py."""

PAGES = [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "deploy").rglob("*.md"), *(ROOT / "tests").rglob("*.md")]


@functools.cache
def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    found = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text).lower() for text in found)
    return {re.sub(r"[^\w\- ]", "", text).replace(" ", "-") for text in plain}


def test_every_link_leads_somewhere() -> None:
    """Each link to a file or a heading of the repository exists."""
    for page in PAGES:
        prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for link in re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"", prose):
            path, _, anchor = "".join(link).partition("#")
            if not re.match(r"https?:|mailto:", path):
                target = page.parent / path if path else page
                assert target.exists(), f"{page}: {path}"
                assert not anchor or anchor in headings(target), f"{page}: {path}#{anchor}"


@pytest.mark.parametrize("name", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_every_file_that_a_page_names_exists(name: str) -> None:
    """A map of the house that names a room which is gone misleads whoever looks for it."""
    tops = ("bench", "deploy", "docs", "kernel", "plugin_host", "plugins", "protos", "sdk", "tests")
    files = {str(each.relative_to(ROOT)) for top in tops for each in (ROOT / top).rglob("*")} | {*tops, ".ci/run"}
    prose = re.sub(r"```.*?```", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.DOTALL)
    missing = []
    for mention in re.findall(r"`([^`\s]+)`", prose):
        if "/" not in mention and not mention.endswith((".py", ".js", ".css", ".html")):
            continue
        pattern = re.escape(mention.rstrip("/")).replace("…", ".*")
        if not any(re.fullmatch(rf"(?:.*/)?{pattern}(?:\.py)?", file) for file in files):
            missing.append(mention)
    assert missing == []


def test_the_readme_lists_every_page() -> None:
    """A page of docs/ that the README does not name is found by nobody."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in DOCS.glob("*.md") if f"(docs/{page.name})" not in readme] == []


def test_examples_of_toml_can_be_pasted(tmp_path: Path) -> None:
    """A block is of one file, and the file is in order; one that begins with a part of a job is pasted into the job."""
    for page in DOCS.glob("*.md"):
        for block in re.findall(r"^```toml\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            tables = tomllib.loads(block)
            files = {"jobs.toml" if name in ("jobs", "meta") else "nomaflow.toml" for name in tables}
            if page.name in AUTHOR_PAGES or re.match(r"\[+jobs\.", block):
                continue
            assert len(files) == 1, (page, block)
            (tmp_path / "jobs.toml").write_text("jobs = []\n")
            (tmp_path / "nomaflow.toml").write_text("")
            (tmp_path / files.pop()).write_text(block)
            errors = [each.message for each in check_project(tmp_path).all_problems() if each.is_error]
            assert errors == [], (page, block)


def test_messages_of_hosts_that_cannot_join_are_those_of_the_code() -> None:
    """Whoever looks for a message in the table of remote_hosts.md finds the words that the host has written."""
    page = (DOCS / "remote_hosts.md").read_text(encoding="utf-8")
    rows = page.split("| message | cause or fix |\n|---|---|\n")[1].split("\n\n")[0].splitlines()
    said = [part for row in rows for part in re.split(r",? ?… ?", row.split(" | ")[0].removeprefix("| ")) if part]
    code = "".join(file.read_text("utf-8") for top in ("sdk", "plugin_host") for file in (ROOT / top).rglob("*.py"))
    assert len(said) > 10
    assert [part for part in said if part not in code] == []


def test_the_guide_shows_what_a_refused_save_says() -> None:
    """The way out of a module that does not import is shown in the host's words."""
    assert f"            → {IMPORT_FIX}\n" in (DOCS / "plugin_guide.md").read_text(encoding="utf-8")


def test_every_reason_code_in_the_code_is_in_the_table() -> None:
    """Every reason code in the product is in the table."""
    pattern = re.compile(
        r"""(?:Reason\(|PreparationFailed\(|ImportReport\(code=|reason_code ?= ?|_reason = )"([a-z_]+)\""""
    )
    used: set[str] = set()
    for folder in ("kernel", "plugin_host", "sdk"):
        for path in (ROOT / folder).rglob("*.py"):
            used.update(pattern.findall(path.read_text(encoding="utf-8")))
    assert len(used) > 30
    assert used - REASONS.keys() == set()


@pytest.mark.parametrize(
    ("heading", "transitions", "states"),
    [("Runs", RUN_TRANSITIONS, RunState), ("Attempts", ATTEMPT_TRANSITIONS, AttemptState)],
)
def test_lifecycle_page_draws_the_transitions(
    heading: str, transitions: Mapping[str, frozenset[str]], states: type
) -> None:
    """The arrows of docs/run_lifecycle.md are the pairs of the transition tables, and every state has its row."""
    text = (DOCS / "run_lifecycle.md").read_text(encoding="utf-8")
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    drawn = set(re.findall(r"^    ([A-Z]+) --> ([A-Z]+):", section, re.MULTILINE))
    assert drawn == {(str(source), str(target)) for source, targets in transitions.items() for target in targets}
    rows = set(re.findall(r"^\| ([A-Z]+) \|", section, re.MULTILINE))
    assert rows == {str(state) for state in states}
