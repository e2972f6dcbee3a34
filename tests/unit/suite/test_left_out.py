"""Tests whose parts a machine has not: left out by name, with the way to get the parts, or red where none may be."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pytest_below import SUITE, suite_of

from machine_parts import PACKAGES

MODULE = """
import shutil

import pytest

from machine_parts import need


@pytest.mark.parametrize("command", ["openssl", "ip"])
def test_command(command, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    need(command)


def test_root(monkeypatch):
    monkeypatch.delenv("NOMAFLOW_TESTS_COMPLETE")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    need(root=True)


def test_nothing():
    need()
"""
WAYS = ["openssl: apt-get install openssl", "ip: apt-get install iproute2", "root: run `make test` as root"]


def test_the_end_of_a_run_names_what_was_left_out(tmp_path: Path) -> None:
    """Each missing part has a line with the way to get it, and nothing is red."""
    printed = suite_of(tmp_path, MODULE)
    assert "1 passed, 3 skipped in" in printed, printed
    _, _, told = printed.partition("= left out =")
    for way in WAYS:
        assert way in told


@pytest.mark.parametrize("module", [MODULE, 'import pytest\n\npytest.importorskip("nothing_of_this_name")\n'])
def test_where_none_may_be_left_out_each_is_red(tmp_path: Path, module: str) -> None:
    """A single test and a whole module are red with the way to get the part."""
    printed = suite_of(tmp_path, module, NOMAFLOW_TESTS_COMPLETE="1")
    assert "skipped" not in printed.splitlines()[-1], printed
    ways = WAYS if module is MODULE else ["could not import 'nothing_of_this_name'"]
    for way in ways:
        assert re.search(f"left out, and NOMAFLOW_TESTS_COMPLETE is set: .*{re.escape(way)}", printed), printed


def test_ci_installs_every_part_and_leaves_none_out() -> None:
    """The packages of every command that a test may need are those of CI's own list."""
    text = (SUITE.parent / ".ci" / "run").read_text()
    for command, package in PACKAGES.items():
        assert f"{command}:{package}" in text.split()
    assert "export NOMAFLOW_TESTS_COMPLETE=1" in text
