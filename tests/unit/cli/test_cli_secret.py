"""``nomaflow secret``: what a person types, and what is never printed."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from cli_command import command_in
from nomaflow_project.reading.encryption import ring_of

VALUE = "hunter2-hunter2"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that names a key file."""
    (tmp_path / "nomaflow.toml").write_text('[host]\nsecret_key_file = "team.key"\n')
    return tmp_path


async def test_from_the_key_to_the_encrypted_value(project: Path) -> None:
    """A key file is made for its owner only; a newer key goes on top; the newest encrypts."""
    command = command_in(project)
    made = json.loads((await command("secret", "keygen", "team.key", "-o", "json")).out)
    file = project / "team.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    first = file.read_text()
    encrypted = (await command("secret", "set", stdin=f"{VALUE}\n")).out.strip()
    assert ring_of(first, "").decrypt(encrypted) == VALUE
    added = json.loads((await command("secret", "keygen", "team.key", "-o", "json")).out)
    assert (made["added"], added["added"]) == (False, True)
    assert file.read_text().endswith(first)
    shown = json.loads((await command("secret", "show-key-id", "-o", "json")).out)
    assert shown == {"source": "[host] secret_key_file (team.key)", "key_ids": [added["key_id"], made["key_id"]]}
    newer = json.loads((await command("secret", "set", "-o", "json", stdin=VALUE)).out)
    assert newer["key_id"] == added["key_id"]


@pytest.mark.parametrize("text", ['[[jobs]]\nid = "a"\n', "naïve", "short\n"])
async def test_a_file_of_something_else_gets_no_key(project: Path, text: str) -> None:
    """A slip of the name does not put a key into a file of the project; comments are part of a key file."""
    file = project / "jobs.toml"
    file.write_text(text)
    refused = await command_in(project)("secret", "keygen", "jobs.toml")
    assert (refused.code, file.read_text()) == (2, text)
    assert refused.err.startswith("✘ 'jobs.toml' is no key file, so no key was added\n  → name a new file")
    file.write_text("# keys of the team\n")
    assert (await command_in(project)("secret", "keygen", "jobs.toml")).code == 0


async def test_what_cannot_be_encrypted_says_why(project: Path) -> None:
    """Without a key or a text value, or with an open key file, it exits with 2 and the way out, and prints no value."""
    command = command_in(project)
    nothing = await command("secret", "set", stdin=VALUE)
    assert (nothing.code, "no such file" in nothing.err) == (2, True)
    await command("secret", "keygen", "team.key")
    empty = await command("secret", "set", stdin="\n")
    assert (empty.code, "the value is empty" in empty.err) == (2, True)
    absent = await command("secret", "set", "--in", "none.toml:a", stdin=VALUE)
    assert (absent.code, "→ name a file of the project" in absent.err) == (1, True)
    (project / "team.key").chmod(0o644)
    exposed = await command("secret", "set", stdin=VALUE)
    assert (exposed.code, "others may read or write it" in exposed.err) == (2, True)
    assert all(VALUE not in done.out + done.err for done in (nothing, empty, exposed))
    (project / "nomaflow.toml").unlink()
    (project / "jobs.toml").write_text("")
    keyless = await command("secret", "show-key-id", env={"NOMAFLOW_SECRET_KEY": ""})
    assert (keyless.code, "nomaflow secret keygen" in keyless.err) == (2, True)


@pytest.mark.parametrize("value", ["x" + "é" * 40_000, "é" * 40_000, "x" * 65_537])
async def test_a_value_is_encrypted_whole_or_not_at_all(project: Path, value: str) -> None:
    """Its limit is one of bytes; a longer one is never cut."""
    command = command_in(project)
    await command("secret", "keygen", "team.key")
    refused = await command("secret", "set", stdin=value)
    assert (refused.code, refused.out) == (2, "")
    assert "the value is longer than 64 KiB" in refused.err
    fits = "x" * 65_536
    ring = ring_of((project / "team.key").read_text(), "")
    assert ring.decrypt((await command("secret", "set", stdin=f"{fits}\r\n")).out.strip()) == fits


async def test_a_list_of_unreadable_secrets_exits_1(project: Path) -> None:
    """The exit code is 1, so that a deployment can stop there."""
    (project / "connectors.toml").write_text('[pools.a]\nurl = "sqlite:///x"\npassword = "file:none"\n')
    listed = await command_in(project)("secret", "list")
    assert listed.code == 1
    assert "connectors.toml:3  pools.a.password  file none" in listed.out
    (project / "connectors.toml").write_text('[pools.a\npassword = "file:none"\n')
    broken = await command_in(project)("secret", "list")
    assert (broken.code, broken.out.split()[:2]) == (1, ["unreadable", "connectors.toml:1"])
    assert "which secrets it refers to is not known: expected" in broken.out
    (project / "connectors.toml").unlink()
    empty = await command_in(project)("secret", "list")
    assert (empty.code, empty.out.strip()) == (0, "no file refers to a secret")


async def test_a_value_is_written_in_its_place(project: Path) -> None:
    """The text of one key is replaced and nothing else, comments and mode included; the file is never half written."""
    command = command_in(project)
    await command("secret", "keygen", "team.key")
    ring = ring_of((project / "team.key").read_text(), "")
    file = project / "connectors.toml"
    text = '# "a"\n[pools.a]\nsince = 2026-01-01\nurl = \'sqlite:///x\'  # "here"\npassword = "old \\" one" # "keep"\n'
    file.write_text(text)
    file.chmod(0o640)
    before = file.stat().st_ino
    done = await command("secret", "set", "--in", "connectors.toml:pools.a.password", stdin=VALUE)
    assert (done.code, "pools.a.password is encrypted with key" in done.out) == (0, True), done.err
    written = file.read_text()
    start, _, rest = written.partition('password = "')
    token, _, end = rest.partition('"')
    assert (start + 'password = "old \\" one"' + end, ring.decrypt(token)) == (text, VALUE)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert file.stat().st_ino != before
    assert [each.name for each in project.glob(".connectors*")] == []
    assert VALUE not in done.out + done.err + written


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("connectors.toml", "expected FILE:KEY"),
        ("connectors.toml:pools.a.none", "has no text at 'pools.a.none'"),
        ("connectors.toml:pools.a.size", "has no text at"),
        ("connectors.toml:pools.a.long", "is not on one line"),
    ],
)
async def test_a_place_without_a_text_is_refused(project: Path, place: str, said: str) -> None:
    """Exit 2, and the file is as it was."""
    command = command_in(project)
    await command("secret", "keygen", "team.key")
    text = '[pools.a]\nurl = "x"\nsize = 5\nlong = """a\nb"""\n'
    (project / "connectors.toml").write_text(text)
    done = await command("secret", "set", "--in", place, stdin=VALUE)
    assert (done.code, said in done.err) == (2, True), done.err
    assert (project / "connectors.toml").read_text() == text
    assert VALUE not in done.out + done.err


async def test_a_value_in_a_file_that_is_no_toml_is_rotated_too(project: Path) -> None:
    """The old key is removed after a rotation, and the file is corrected at some time."""
    command = command_in(project)
    await command("secret", "keygen", "team.key")
    old = (await command("secret", "set", stdin=VALUE)).out.strip()
    (project / "connectors.toml").write_text(f'[pools.default\npassword = "{old}"\n')
    await command("secret", "keygen", "team.key")
    done = await command("secret", "rotate", "-o", "json")
    assert (done.code, json.loads(done.out)["changed"]) == (0, {"connectors.toml": 1})
    new = (project / "connectors.toml").read_text().partition('"')[2].partition('"')[0]
    newest = (project / "team.key").read_text().splitlines()[0]
    assert (new != old, ring_of(newest, "").decrypt(new)) == (True, VALUE)


@pytest.mark.parametrize("words", [("set",), ("show-key-id",), ("rotate",)])
async def test_a_key_is_not_said_to_be_missing_where_its_name_cannot_be_read(
    project: Path, words: tuple[str, ...]
) -> None:
    """Not another key is needed then, but a correction of nomaflow.toml."""
    with (project / "nomaflow.toml").open("a") as settings:
        settings.write('[host]\nname = "team"\n')
    done = await command_in(project)("secret", *words, stdin=VALUE)
    assert (done.code, "nomaflow.toml cannot be read: line 3:" in done.err, "keygen" in done.err) == (2, True, False)
