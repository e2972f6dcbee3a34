"""Words and numbers for people, and values as they are typed."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from cli_command import Command
from fake_kernel import make_run
from nomaflow.client.values import LogLine, RunView
from nomaflow_api.v1.message_codec import decode
from nomaflow_cli.application import run
from nomaflow_cli.errors import CliError
from nomaflow_cli.formatting import age, amount, count, extras_text
from nomaflow_cli.invocation import APP, Invocation
from nomaflow_cli.pages.log_lines import log_text, print_log
from nomaflow_cli.pages.runs import runs_table
from nomaflow_cli.parsers import level_number, parse_op_kwargs, parse_params, parse_span, parse_switches
from nomaflow_cli.project import known_project, require_project
from nomaflow_telemetry.visible_text import first_line, paragraph, printable

HOSTILE = "\x1b[2J\x1b]0;owned\x07 \x9b31m \u202egnp.exe \u2066 a\rb \x7f \udcff end"


def test_nothing_that_steers_a_terminal_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Escape sequences, C1 codes, bidi overrides, carriage returns and stray bytes are spelled out."""
    line = LogLine(1, 0, 20, HOSTILE, HOSTILE, 1, HOSTILE)
    text = log_text(line).plain
    print_log(Console(force_terminal=False), [line])
    for shown in (printable(HOSTILE), text, capsys.readouterr().out.rstrip("\n")):
        assert not any(ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 for character in shown)
        assert "\u202e" not in shown
        assert "\u2066" not in shown
        assert r"\x1b[2J" in shown
        assert r"\xff end" in shown
        assert shown.isprintable()


def test_a_traceback_can_be_read_and_no_line_can_be_forged(capsys: pytest.CaptureFixture[str]) -> None:
    """The lines after a record's first are indented, so only records of ours begin at the left."""
    traceback = "Traceback:\r\n  File 'a.py'\n\n12:00:00.000 INFO  forged\x1b[1A\rx\n"
    print_log(Console(force_terminal=False), [LogLine(1, 0, 40, "nomaflow", "step", 1, traceback)])
    record, *more = capsys.readouterr().out.splitlines()
    assert record.endswith("nomaflow Traceback:")
    assert more == ["      File 'a.py'", "", r"    12:00:00.000 INFO  forged\x1b[1A\x0dx"]
    assert paragraph("", indent=2) == ""
    assert (first_line("why\nmore"), first_line("why\n"), first_line("")) == ("why …", "why", "")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "now"), (5, "5 s ago"), (-5, "in 5 s"), (200, "3 min ago"), (-7300, "in 2 h"), (200_000, "2 d ago")],
)
def test_ages_are_relative(seconds: float, text: str) -> None:
    """An instant is shown as the time since it, or the time until it."""
    now = datetime.now(UTC)
    assert age(now - timedelta(seconds=seconds), now=now) == text


def test_a_whole_number_is_exact() -> None:
    """The largest count of rows is not the float beside it."""
    assert (amount(2**63 - 1), amount(1.5), amount(2.0), amount(None)) == ("9,223,372,036,854,775,807", "1.50", "2", "")


def test_extras_stay_on_one_line() -> None:
    """Extras of any kind become one harmless line."""
    text = extras_text({"a": 1, "b": [1, 2], "c": {"x": 1}, "d": None, "e": True, "f": "x\ny" * 50})
    assert text.startswith(r'a 1 · b [1, 2] · c {"x": 1} · d – · e yes · f x\x0ayx')
    assert "\n" not in text
    assert count(1, "row") == "1 row"
    assert count(2000, "row") == "2,000 rows"


def test_parameters_are_json_or_plain_text() -> None:
    """A value that is JSON is that value, other text is text, and the first = ends the key."""
    given = ["a=1", "b=[1, 2]", "c=plain text", 'd="quoted"', "e=null", "f=x=y", "g=", "h=NaN", "i=1e400"]
    values = parse_params(given)
    assert values == {
        "a": 1, "b": [1, 2], "c": "plain text", "d": "quoted", "e": None, "f": "x=y", "g": "", "h": "NaN", "i": "1e400",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["{broken", "[1, 2", '"open'])
def test_what_looks_like_broken_json_is_refused(text: str) -> None:
    """A typing error in an object, a list or a string does not silently become text."""
    with pytest.raises(CliError, match="not valid JSON"):
        parse_params([f"a={text}"])


@pytest.mark.parametrize("text", ["a", "=1", ""])
def test_a_parameter_needs_key_and_value(text: str) -> None:
    """A text without = or without a key says what to write."""
    with pytest.raises(CliError, match="has no value"):
        parse_params([text])


def test_op_kwargs_belong_to_steps() -> None:
    """The last dot before the = ends the step's name."""
    assert parse_op_kwargs(["purge.days=3", "a.b.c=1", "purge.x=y.z"]) == {
        "purge": {"days": 3, "x": "y.z"},
        "a.b": {"c": 1},
    }
    with pytest.raises(CliError, match="names no step"):
        parse_op_kwargs(["days=3"])


def test_switches_are_on_or_off() -> None:
    """A step is switched on or off, nothing else."""
    assert parse_switches(["a=on", "b=off"]) == {"a": True, "b": False}
    with pytest.raises(CliError, match="expected on or off, got 'yes'"):
        parse_switches(["a=yes"])


def test_levels_and_spans() -> None:
    """Levels by name or number, spans with a unit; all else is refused by name."""
    assert (level_number("warning"), level_number("35")) == (30, 35)
    assert parse_span("1.5h", option="--for") == timedelta(minutes=90)
    with pytest.raises(CliError, match="unknown level 'loud'"):
        level_number("loud")
    with pytest.raises(CliError, match="--for: not a time span: '5'"):
        parse_span("5", option="--for")


def test_the_project_is_found_from_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearest directory upwards with one of the project's files is the project."""
    deep = tmp_path / "team" / "plugins" / "myapp"
    deep.mkdir(parents=True)
    (tmp_path / "team" / "jobs.toml").touch()
    monkeypatch.chdir(deep)
    assert require_project(None) == tmp_path / "team"
    with pytest.raises(CliError, match="no such directory"):
        require_project(tmp_path / "none")


def test_a_working_directory_that_is_gone_or_closed_is_no_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root's own directory, say, in which a user was switched to: a sentence, and no traceback."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(CliError, match="the working directory cannot be found"):
        require_project(None)
    assert known_project(Invocation()) is None
    monkeypatch.chdir(tmp_path)

    def closed(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", closed)
    with pytest.raises(CliError, match="no project here"):
        require_project(None)


@pytest.mark.parametrize(
    ("width", "headers"),
    [
        (160, ["run", "job", "state", "started by", "took", "rows", "why"]),
        (80, ["run", "job", "state", "started by"]),
        (60, ["run", "job", "state"]),
        (40, ["run", "job", "st"]),
    ],
)
def test_a_narrow_terminal_shows_what_is_needed_most(width: int, headers: list[str]) -> None:
    """Columns are left out rather than all made unreadable; a run's id is always whole."""
    run = make_run(f"run_{'x' * 26}", "FAILED", job_id="nightly")
    run.reason.code, run.reason.message = "step_failed", "no rows"
    console = Console(force_terminal=False, width=width)
    with console.capture() as captured:
        console.print(runs_table([decode(RunView, run)]))
    head, _rule, row = captured.get().splitlines()
    assert re.split(r"\s{2,}", head.strip()) == headers, head
    assert row.startswith(f"run_{'x' * 26} ")
    assert ("no rows" in row) == ("why" in headers)


_TOLD = re.compile(r"(?:``|`|<code>|: |, or |with )nomaflow ([a-z]+)(?: ([a-z]+)\b)?")


def test_each_command_that_a_text_of_the_product_names_exists() -> None:
    """Every command that a text of the product names exists."""
    assert run(["--help"]) == 0  # loads all commands
    known: dict[str, set[str]] = {each.name or each.callback.__name__: set() for each in APP.registered_commands}  # type: ignore[union-attr]
    for group in APP.registered_groups:
        names = {each.name or each.callback.__name__ for each in group.typer_instance.registered_commands}  # type: ignore[union-attr]
        known[str(group.name)] = names | ({""} if group.typer_instance.registered_callback else set())
    told = {
        (path.name, *found.groups(default=""))
        for folder in ("kernel", "sdk", "plugin_host", "plugins")
        for path in (Path(__file__).parents[3] / folder).rglob("*.*")
        if path.suffix in (".py", ".html")
        for found in _TOLD.finditer(path.read_text("utf-8"))
    }
    assert len(told) > 60
    assert sorted(each for each in told if each[1] not in known) == []
    assert sorted(each for each in told if known[each[1]] and each[2] and each[2] not in known[each[1]]) == []


def test_the_documents_name_every_reason_of_the_command() -> None:
    """A program that reads errors finds each of them, those of the kernel's service in the other page."""
    root = Path(__file__).parents[3]
    told = "".join((root / "docs" / name).read_text("utf-8") for name in ("cli.md", "grpc_api.md"))
    sources = "".join(path.read_text("utf-8") for path in (root / "sdk" / "nomaflow_cli").rglob("*.py"))
    reasons = set(re.findall(r"(?:reason=|_refusal\()\"([A-Z_]+)\"", sources))
    assert len(reasons) > 20
    assert {each for each in reasons if not re.search(rf"\b{each}\b", told)} == set()


async def test_characters_that_a_terminal_lacks_are_spelled_out(command: Command, tmp_path: Path) -> None:
    """With an old locale, such as en_US without UTF-8, the output has escapes like standard error's."""
    (tmp_path / "jobs.toml").write_text('[[jobs]]\nid = "one"\nsteps = [{ callable = "work:one" }]\n')
    for encoding in ("latin-1", "ascii:surrogateescape"):  # the last is that of LC_ALL=C without UTF-8
        done = await command("check", str(tmp_path), "--no-import", env={"PYTHONIOENCODING": encoding})
        assert "\\u2714 one" in done.out, done.err
        assert "Traceback" not in done.err
