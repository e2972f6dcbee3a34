"""NF101, where references lead, what silences, and what is never said."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import author_page
from nomaflow_cli.lint.module_source import FIXES
from nomaflow_cli.lint.project import lint_project
from nomaflow_project.reading.problems import Problem

Codes = Callable[..., list[str]]
Lint = Callable[..., list[Problem]]

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        ("ctx, apps_id, **_", ["NF101"]),
        ("connectors, **_", ["NF101"]),
        ("a, /, **_", ["NF101"]),
        ("*args, **_", ["NF101"]),
        ("apps_id=1", ["NF101"]),
        ("*, apps_id", []),
        ("*, connectors", []),
        ("*, connectors, ctx, settings", []),
        ("", []),
        ("**kwargs", []),
        ("*, ctx, apps_id=1, **_", []),
    ],
)
def test_signatures(codes: Codes, signature: str, expected: list[str]) -> None:
    """Positional parameters are found; a function that takes no ``**`` gets what it names, which is no mistake."""
    assert sorted(codes(f"def step({signature}): ...")) == expected


def test_a_finding_has_place_and_fix(lint: Lint) -> None:
    """File relative to the project, line, names, and the way out with the comment that accepts it."""
    (found,) = lint('"""é"""\nimport time\nasync def step(*, é="ü", n, **_): return {"é": "ü", "at": time.sleep(n)}\n')
    assert (found.code, found.severity, found.place) == ("NF108", "warning", "plugins/mod.py:3")
    assert found.message == "'step' is a coroutine and calls time.sleep(), which blocks"
    assert found.fix == f"{FIXES['NF108']}; if intended, add: # noqa: NF108"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def step(a, **_): ...  # noqa: NF101", []),
        ("def step(a, **_): ...  # noqa", []),
        ("def step(a, **_): ...  #NOQA:nf101", []),
        ("def step(a): ...  # noqa: E501, NF101 NF103 - the caller is old", []),
        ("def step(a, **_): ...  # noqa: E501", ["NF101"]),
        ("def step(a, **_): return '# noqa'", ["NF101"]),
        ("def step(  # noqa: NF101\n    a,\n    **_,\n): ...", []),
        ("def step(\n    a,\n    **_,\n):  # noqa: NF101\n    ...", []),
        ("def step(\n    a,\n    **_,\n):\n    ...  # noqa: NF101", ["NF101"]),
        ("def step(**_):\n    try: x()\n    except Exception:  # noqa: NF104\n        pass", []),
        ("def step(**_):\n    try: x()\n    except Exception:\n        pass  # noqa: NF104", ["NF104"]),
        ("def step(**_):\n    while True:  # noqa: NF103\n        pass", []),
        ("import time\nasync def step(**_):\n    return [\n        time.sleep(1),  # noqa: NF108\n    ]", []),
        ("# noqa\ndef step(a, **_): ...", ["NF101"]),
    ],
)
def test_silencing(codes: Codes, source: str, expected: list[str]) -> None:
    """A comment on the lines of a statement silences the codes it names, or all; text that looks like one does not."""
    assert codes(source) == expected


@pytest.mark.parametrize(
    ("source", "reference", "expected"),
    [
        ("class Tools:\n    @staticmethod\n    def run(a, **_): ...", "mod:Tools.run", ["NF101"]),
        ("class Tools:\n    @classmethod\n    def run(cls, *, a, **_): ...", "mod:Tools.run", []),
        ("class Tools:\n    @classmethod\n    def run(cls, a, **_): ...", "mod:Tools.run", ["NF101"]),
        ("class A:\n    class B:\n        @staticmethod\n        def run(a, **_): ...", "mod:A.B.run", ["NF101"]),
        ("class Tool:\n    def __call__(self, a, **_): ...\nstep = Tool()", "mod:step", ["NF101"]),
        ("def one(a, **_): ...\nstep = one", "mod:step", ["NF101"]),
        ("from functools import partial\nasync def one(a): input()\nstep = partial(one, 1)", "mod:step", ["NF108"]),
        ("import functools\n@functools.cache\ndef step(a, **_): ...", "mod:step", ["NF101"]),
        ("if True:\n    def step(a, **_): ...", "mod:step", ["NF101"]),
        ("def step(a, **_): ...\ndef step(**_): ...", "mod:step", []),
        ("from other import step", "mod:step", ["NF101"]),
        ("from other import step as mine", "mod:mine", ["NF101"]),
        ("from pkg.deep import step", "mod:step", ["NF101"]),
        ("import pkg.deep\nstep = pkg.deep.step", "mod:step", ["NF101"]),
        ("", "pkg:again", ["NF101"]),
        ("", "pkg.deep:step", ["NF101"]),
        ("step = step", "mod:step", []),
        ("a = b\nb = a", "mod:a", []),
        ("class Tools: ...", "mod:Tools", []),
        ("def made(): ...\nstep = made()", "mod:step", []),
    ],
)
def test_where_references_lead(codes: Codes, source: str, reference: str, expected: list[str]) -> None:
    """Static and class methods, objects, aliases, partials and re-exports are followed; nothing is guessed."""
    deep = "def step(a, **_): ..."
    others = {"other": deep, "pkg.deep": deep, "pkg.__init__": "from .deep import step as again"}
    assert codes(source, reference, **others) == expected


def test_the_file_is_the_one_of_the_function(lint: Lint) -> None:
    """A finding about a function that another module re-exports names the file that defines it, once."""
    found = lint("from other import step", "mod:step", "other:step", other="\n\ndef step(a, **_): ...")
    assert [(each.file, each.line) for each in found] == [("plugins/other.py", 3)]


@pytest.mark.parametrize(
    "reference",
    ["", "mod", "mod:", ":step", "mod:gone", "gone:step", "json:dumps", "../mod:step", "mod:step.x", "a..b:c", "é:é"],
)
def test_references_that_lead_nowhere(codes: Codes, reference: str) -> None:
    """References without a target are left to the check of the manifest; the lint does not report them."""
    assert codes("def step(a, **_): ...", reference) == []


@pytest.mark.parametrize(
    "content",
    [
        b"def step(a:",
        b"\xff\xfe\x00",
        b"# coding: nonsense\ndef step(a): ...",
        b"def step(a):\n\treturn '\x00'",
        b"x = " + b"(" * 500 + b")" * 500,
        b"x = " + b"-" * 100_000 + b"1",
    ],
)
def test_files_that_do_not_parse(tmp_path: Path, content: bytes) -> None:
    """A file that Python would not take is passed over."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "mod.py").write_bytes(content)
    assert lint_project(tmp_path, ["mod:step"]) == ()


def test_long_expressions(codes: Codes) -> None:
    """Thousands of terms in one expression are no trouble."""
    terms = " * ".join(["2"] * 900)
    assert codes(f"def step(**_):\n    for i in range({terms}):\n        print(i)\n    return {{'n': {terms}}}") == []


def test_other_encodings(tmp_path: Path) -> None:
    """A byte order mark, a coding line and Windows line ends are read as Python reads them."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "bom.py").write_bytes(b"\xef\xbb\xbfdef step(a, **_): ...\r\n")
    (tmp_path / "plugins" / "latin.py").write_bytes(b"# coding: latin-1\r\ns = '\xe9'\r\ndef step(a, **_): ...\r\n")
    found = lint_project(tmp_path, ["bom:step", "latin:step"])
    assert [each.place for each in found] == ["plugins/bom.py:1", "plugins/latin.py:3"]


def test_no_project(tmp_path: Path) -> None:
    """A project without a plugins folder has no findings."""
    assert lint_project(tmp_path, ["mod:step"]) == ()


def test_the_author_page_is_clean(lint: Lint) -> None:
    """The page's own examples raise no alarm."""
    names = {
        "CLEANUP": ("purge_old_sessions", "by_name"), "LOOP": ("long_loop",), "ERRORS": ("maybe_fail", "explicit"),
        "LOGGING": ("my_function",), "MONTHLY": ("generate_monthly_summary",),
    }  # fmt: skip
    sources = {name.lower(): getattr(author_page, name) for name in names}
    references = [f"{name.lower()}:{function}" for name, functions in names.items() for function in functions]
    assert len(references) == 7
    assert lint("", *references, **sources) == []
    assert lint("", "spoilt:my_function", spoilt=sources["logging"].replace("*, ", "")) != []


@pytest.mark.parametrize("project", ["plugins/demo", "sdk/nomaflow_cli/scaffold"])
def test_our_own_projects_are_clean(project: str) -> None:
    """The demo and what ``nomaflow init`` writes raise no alarm."""
    root = ROOT / project
    jobs = tomllib.loads((root / "jobs.toml").read_text(encoding="utf-8"))["jobs"]
    references = [step["callable"] for job in jobs for step in job["steps"]]
    assert len(references) > 1
    assert lint_project(root, references) == ()


def test_the_lint_is_light() -> None:
    """The lint imports no plugins, and only the standard library and our own modules."""
    code = (
        "import sys; import nomaflow; names = set(sys.modules); import nomaflow_cli.lint.project; "
        "new = {n.split('.')[0] for n in set(sys.modules) - names}; "
        "print(sorted(new - set(sys.stdlib_module_names) - {'nomaflow', 'nomaflow_cli', 'nomaflow_project'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
