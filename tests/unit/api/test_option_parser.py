"""Options of our processes: whole names only, and a near match for one that is misspelt."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

import pytest

from nomaflow_alerts import __main__ as alerts
from nomaflow_api.option_parser import OptionParser
from nomaflow_console import __main__ as console
from nomaflow_console.settings import FLAGS
from nomaflow_host import __main__ as host
from nomaflow_kernel.process.settings import read_settings
from nomaflow_kernel.upkeep import __main__ as upkeep
from nomaflow_launchers import __main__ as launcher


@pytest.mark.parametrize(
    ("read", "arguments", "told"),
    [
        (host._parser()[0].parse, ["--ca", "cpu=1"], "--ca; did you mean --capacity?"),
        (host._parser()[0].parse, ["--capcity=cpu=1"], "--capcity; did you mean --capacity?"),
        (host._parser()[0].parse, ["--watch", "--log", "x"], "--log; did you mean --log-level or --log-format?"),
        (lambda given: read_settings(given, {}), ["--leader-ttl", "5"], "did you mean --leader-ttl-seconds?"),
        (upkeep._parser().parse, ["inspect", "--deeep"], "did you mean --deep?"),
        (alerts._parser().parse, ["--projet", "x"], "did you mean --project?"),
        (launcher._parser().parse, ["--proj", "x"], "did you mean --project?"),
        # Without the look at the options before, its value would be called a wrong action.
        (console._parser(FLAGS).parse, ["--orign", "x"], "no such option: --orign; did you mean --origin?"),
        (console._parser(FLAGS).parse, ["link", "--qqq"], "no such option: --qqq; --help lists the options"),
    ],
)
def test_an_option_that_is_no_whole_name_is_refused_with_the_one_that_may_be_meant(
    read: Callable[[Sequence[str]], object], arguments: Sequence[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        read(arguments)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_values_that_look_like_options_and_what_follows_two_dashes_are_left_to_argparse(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parser = OptionParser(prog="tried")
    parser.add_argument("--name")
    parser.add_argument("rest", nargs="*")
    assert parser.parse(["--name=--x", "--", "--y"]) == argparse.Namespace(name="--x", rest=["--y"])
    assert parser.parse(["--name", "--x y"]) == argparse.Namespace(name="--x y", rest=[])
    monkeypatch.setattr(sys, "argv", ["tried", "--name", "own"])
    assert parser.parse().name == "own"
