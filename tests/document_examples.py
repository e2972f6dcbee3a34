"""The examples of the pages for authors: each fenced block says in its first line which file it is part of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DOCS", "Example", "console_examples", "examples_of", "write_project"]

DOCS = Path(__file__).parents[1] / "docs"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# ([\w./-]+\.(?:py|toml))\n")


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One fenced block of Python or TOML.

    :param file: the file it is part of, relative to a project
    """

    language: str
    file: str
    text: str


def examples_of(page: str) -> list[Example]:
    """Return the Python and TOML blocks of a page; one that names no file is an error of the page."""
    found = []
    for language, text in _fences(page):
        if language in ("python", "toml"):
            head = _FILE.match(text)
            assert head is not None, f"{page}: a block of {language} names no file: {text[:60]!r}"
            assert head[1].endswith({"python": ".py", "toml": ".toml"}[language]), (page, head[1])
            found.append(Example(language=language, file=head[1], text=text))
    return found


def console_examples(page: str) -> list[tuple[str, str]]:
    """Return (command, what it prints) of the blocks of a page that show both."""
    found = []
    for language, text in _fences(page):
        if language == "console":
            command, _, output = text.partition("\n")
            assert command.startswith("$ "), (page, command)
            found.append((command.removeprefix("$ "), output))
    return found


def write_project(page: str, root: Path) -> list[str]:
    """Write the examples of a page as the project that they make up; blocks of one file follow each other.

    :return: the files, relative to the root
    """
    files: dict[str, str] = {}
    for example in examples_of(page):
        files[example.file] = files.get(example.file, "") + example.text + "\n"
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(files)


def _fences(page: str) -> list[tuple[str, str]]:
    text = (DOCS / page).read_text(encoding="utf-8")
    found = [(match[1], match[2]) for match in _FENCE.finditer(text)]
    assert len(found) * 2 == len(re.findall(r"^ *(?:```|~~~)", text, re.MULTILINE)), f"{page}: a fence is not plain"
    return found
