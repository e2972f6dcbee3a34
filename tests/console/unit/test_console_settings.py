"""The settings of a console: which are taken, and what refuses the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from nomaflow_console.settings import ConsoleSettings, SettingsRefused, read_settings


def read(project: Path, *, environ: dict[str, str] | None = None, **flags: str) -> ConsoleSettings:
    """Return the settings of a project with some flags."""
    return read_settings(project, {name.replace("_", "-"): value for name, value in flags.items()}, environ or {})


@pytest.mark.parametrize("listen", ["127.0.0.1:7434", "127.0.0.1:0", "localhost:80", "[::1]:7434", "127.8.9.1:1"])
def test_loopback_needs_nothing_else(tmp_path: Path, listen: str) -> None:
    """An address that only this machine reaches needs neither TLS nor an origin."""
    assert read(tmp_path, listen=listen).listen == listen


@pytest.mark.parametrize("listen", ["192.0.2.7:7434", "ops.example.org:80", "[2001:db8::1]:7434"])
def test_an_address_that_the_network_can_read_is_refused_without_tls(tmp_path: Path, listen: str) -> None:
    """The refusal names the three ways out; a proxy's origin without TLS is not one of them."""
    for origin in ("", "http://ops.example.org"):
        with pytest.raises(SettingsRefused) as refused:
            read(tmp_path, listen=listen, origin=origin)
        assert refused.value.exit_code == 78
        assert "where the network can read its sessions" in str(refused.value)
        assert "--origin https://HOST" in str(refused.value)
    assert read(tmp_path, listen=listen, origin="https://ops.example.org").secure


def test_an_address_of_every_interface_needs_a_name(tmp_path: Path) -> None:
    """A console on 0.0.0.0 needs an origin, since that address is not what a browser calls it."""
    with pytest.raises(SettingsRefused, match="name it: --origin"):
        read(tmp_path, listen="0.0.0.0:7434")
    assert read(tmp_path, listen="0.0.0.0:7434", origin="https://OPS.example.org/").origin == "https://ops.example.org"


@pytest.mark.parametrize("listen", ["7434", "127.0.0.1", "127.0.0.1:99999", "http://127.0.0.1:1", "a b:1"])
def test_a_malformed_address_is_refused(tmp_path: Path, listen: str) -> None:
    """The refusal gives an example."""
    with pytest.raises(SettingsRefused, match=r"write 127\.0\.0\.1:7434, say"):
        read(tmp_path, listen=listen)


@pytest.mark.parametrize("origin", ["ops.example.org", "ftp://x", "https://", "https://x/path", "https://u:p@x"])
def test_a_malformed_origin_is_refused(tmp_path: Path, origin: str) -> None:
    """An origin is a scheme and a host, nothing more."""
    with pytest.raises(SettingsRefused, match="is not a scheme and a host"):
        read(tmp_path, origin=origin)


def test_flags_win_over_variables_and_these_over_the_file(tmp_path: Path) -> None:
    """The order is that of kernel and host; relative paths begin at the project."""
    (tmp_path / "nomaflow.toml").write_text(
        '[console]\nlisten = "unix:run/c.sock"\nuser_header = "X-User"\nlog_level = "ERROR"\n[host]\nname = "x"\n'
    )
    environ = {"NOMAFLOW_CONSOLE_LOG_LEVEL": "WARNING", "NOMAFLOW_CONSOLE_USER_HEADER": "X-Other"}
    found = read(tmp_path, environ=environ, user_header="X-Mine")
    assert found.listen == f"unix:{tmp_path}/run/c.sock"
    assert found.user_header == "x-mine"
    assert found.log_level == "WARNING"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[console]\nlissen = 1\n", "listen"),
        ('[console]\nlog_level = "LOUD"\n', "LOUD"),
        ("[console]\nlisten = 7\n", "listen"),
        ("[console\n", "nomaflow.toml"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, text: str, words: str) -> None:
    """A mistake in [console] ends the start with its place and the way out."""
    (tmp_path / "nomaflow.toml").write_text(text)
    with pytest.raises(SettingsRefused, match=words):
        read(tmp_path)


def test_each_mistake_begins_a_line(tmp_path: Path) -> None:
    """Each has its own way out."""
    (tmp_path / "nomaflow.toml").write_text("[console]\nlissen = 1\nlog_levl = 2\n")
    with pytest.raises(SettingsRefused) as caught:
        read(tmp_path)
    lines = str(caught.value).splitlines()
    assert [each[:6] for each in lines] == ["error:", "  unkn", "  way ", "error:", "  unkn", "  way "]
    assert lines[-1] == "  way out: did you mean 'log_level'?"


def test_mistakes_elsewhere_in_the_file_are_not_the_consoles_to_refuse(tmp_path: Path) -> None:
    """A console runs while somebody mends the host's settings."""
    (tmp_path / "nomaflow.toml").write_text('[host]\nnaim = "x"\n')
    assert read(tmp_path).listen == ""


def test_tls_needs_both_files(tmp_path: Path) -> None:
    """A certificate without its key is refused, as is a file that is not there."""
    (tmp_path / "c.pem").touch()
    with pytest.raises(SettingsRefused, match="TLS needs both"):
        read(tmp_path, tls_cert="c.pem")
    with pytest.raises(SettingsRefused, match=r"there is no file '.*k\.pem'"):
        read(tmp_path, tls_cert="c.pem", tls_key="k.pem")


@pytest.mark.parametrize(
    ("address", "takes_tokens"),
    [("", False), ("unix:/k.sock", False), ("tls://k:1", True), ("k:1,tls://l:2", True), ("unix:/k,tls://l:2", False)],
)
def test_tokens_are_taken_where_no_call_goes_to_an_owners_socket(
    tmp_path: Path, address: str, *, takes_tokens: bool
) -> None:
    """At an owner's socket a token would get the owner's rights."""
    found = read(tmp_path, address=address)
    assert found.takes_tokens is takes_tokens
    assert found.has_access is not takes_tokens


def test_the_consoles_own_token_comes_from_a_file_and_is_never_shown(tmp_path: Path) -> None:
    """A token in a file gives the console access of its own, and no representation has it."""
    (tmp_path / "token").write_text("s3cret\n")
    found = read(tmp_path, address="tls://k:1", token_file=str(tmp_path / "token"))
    assert (found.token, found.has_access) == ("s3cret", True)
    assert "s3cret" not in repr(found)
    with pytest.raises(SettingsRefused, match="cannot read the token file"):
        read(tmp_path, token_file=str(tmp_path / "nowhere"))
