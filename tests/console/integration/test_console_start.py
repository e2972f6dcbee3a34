"""The console as a process: where it listens, what it refuses, TLS, and how it goes on after a kill."""

from __future__ import annotations

import contextlib
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from certificate_authority import Authority
from cli_command import run_command
from nomaflow_console.access.links import make_code
from nomaflow_console.access.secret import ConsoleSecret
from nomaflow_console.settings import SettingsRefused
from real_system import PATIENCE, Running, eventually, launch, run_to_end

Launch = Callable[..., Running]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project without a kernel."""
    (tmp_path / "p").mkdir()
    return tmp_path / "p"


@pytest.fixture
def start(project: Path, tmp_path: Path) -> Iterator[Launch]:
    """Starts consoles of the project, and waits until they say where they are."""
    with contextlib.ExitStack() as stack:

        def launch_console(*flags: str) -> Running:
            told = project / ".nomaflow" / "console"
            told.unlink(missing_ok=True)
            made = launch("nomaflow_console", project, *flags, log_file=tmp_path / "console.log")
            stack.callback(made.stop)
            eventually(lambda: told.exists() or made.ended)
            assert not made.ended, made.log
            return made

        yield launch_console


def refused(project: Path, *flags: str) -> tuple[int, str]:
    """Return how a console ended that does not start: its exit code, and what it said."""
    return run_to_end("nomaflow_console", "--project", str(project), *flags)


def url_of(project: Path) -> str:
    """Return where the console is, as a browser sees it."""
    return (project / ".nomaflow" / "console").read_text().split()[0]


def code_of(project: Path) -> str:
    """Return a code that logs in."""
    return make_code(ConsoleSecret.of(project / ".nomaflow"), "ann")


def test_an_open_network_is_refused_with_exit_code_78(project: Path) -> None:
    """One line says what is wrong and the way out; nothing listens."""
    code, told = refused(project, "--listen", "192.0.2.7:7434")
    assert code == 78
    assert told.startswith("nomaflow console: the console would listen at 192.0.2.7:7434 without TLS")
    assert told.count("\n") == 1


def test_a_taken_address_is_refused_with_exit_code_75(project: Path) -> None:
    """The refusal says so in words, and names a way to a free port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, told = refused(project, "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert code == 75
    assert ": another process listens there; name another address, such as --listen 127.0.0.1:0" in told


def test_a_file_in_the_place_of_the_folder_is_a_wrong_setting(tmp_path: Path) -> None:
    """No new start helps then, so whoever supervises the console does not try."""
    folder = tmp_path / ".nomaflow"
    folder.write_text("")
    with pytest.raises(SettingsRefused, match=r"file exists; .* has to be a folder") as refusal:
        ConsoleSecret.of(folder)
    assert refusal.value.exit_code == 78


def test_the_secret_is_for_its_owner_alone(project: Path, start: Launch) -> None:
    """It is made with mode 0600; one that others can read, or that is cut short, is not used."""
    start("--listen", "127.0.0.1:0")
    secret = project / ".nomaflow" / "console-secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    secret.chmod(0o640)
    with pytest.raises(SettingsRefused, match="others can read the console's secret"):
        ConsoleSecret.of(secret.parent)
    assert refused(project)[0] == 78
    secret.chmod(0o600)
    secret.write_bytes(b"short")
    with pytest.raises(SettingsRefused, match="has 5 bytes and not 32"):
        ConsoleSecret.of(secret.parent)
    secret.unlink()
    secret.mkdir()
    with pytest.raises(SettingsRefused, match="is a directory; check that folder and its disk"):  # no other user helps
        ConsoleSecret.of(secret.parent)
    assert refused(project)[0] == 1  # the disk may have room later: whoever supervises it starts it again


def test_a_unix_socket_serves_whoever_forwards_it(project: Path, start: Launch) -> None:
    """Behind ssh -L the browser's port is unknown: the names count, and the origin must be the host's."""
    path = project / "c.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    start("--listen", "unix:c.sock")
    assert path.stat().st_mode & 0o777 == 0o660
    transport = httpx.HTTPTransport(uds=str(path))
    with httpx.Client(transport=transport, base_url="http://localhost:9999", timeout=PATIENCE) as client:
        own = {"origin": "http://localhost:9999"}
        assert client.post("/login", data={"code": code_of(project)}, headers=own).status_code == 303
        assert client.post("/login", data={"code": code_of(project)}, headers={"origin": "http://x"}).status_code == 403
        assert client.get("/login", headers={"host": "evil.example"}).status_code == 403
    assert refused(project, "--listen", "unix:c.sock")[0] == 75
    (project / "file").touch()
    assert refused(project, "--listen", "unix:file")[0] == 78


def test_a_proxy_is_believed_for_its_origin_and_the_name_of_the_person_only(project: Path, start: Launch) -> None:
    """The console answers its host alone, sends cookies for TLS and takes the actor from its header, but no login."""
    start("--listen", "127.0.0.1:0", "--origin", "https://ops.example.org", "--user-header", "X-User")
    assert url_of(project) == "https://ops.example.org"
    base = listening_port(project)
    host = {"host": "ops.example.org"}
    with httpx.Client(base_url=f"http://127.0.0.1:{base}", headers=host, timeout=PATIENCE) as client:
        named = {"accept": "text/html", "x-user": "zoe"}
        assert client.get("/preferences", headers=named).status_code == 303
        own = {"origin": "https://ops.example.org"}
        answer = client.post("/login", data={"code": code_of(project)}, headers=own)
        assert answer.status_code == 303
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-nomaflow-")
        assert cookie.endswith("; Secure")
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        shown = {"accept": b"text/html", "x-user": "zoë".encode(), "cookie": cookie.partition(";")[0].encode()}
        assert "Logged in as zoë" in client.get("/nowhere", headers=shown).text
        assert client.get("/login", headers={"host": f"127.0.0.1:{base}"}).status_code == 403


def listening_port(project: Path) -> int:
    """Return the port that the console of a project listens on."""
    pid = int((project / ".nomaflow" / "console").read_text().split()[1])
    return next(each.laddr.port for each in psutil.Process(pid).net_connections("tcp") if each.status == "LISTEN")


def test_own_tls_serves_with_a_secure_cookie(project: Path, start: Launch, tmp_path: Path) -> None:
    """With a certificate and key of its own the console speaks TLS only."""
    authority = Authority(tmp_path)
    pair = authority.issue("console", "localhost", "127.0.0.1")
    start("--listen", "127.0.0.1:0", "--tls-cert", str(pair.cert), "--tls-key", str(pair.key))
    url = url_of(project)
    assert url.startswith("https://127.0.0.1:")
    trusted = ssl.create_default_context(cafile=str(authority.file))
    with httpx.Client(base_url=url, verify=trusted, timeout=PATIENCE) as client:
        answer = client.post("/login", data={"code": code_of(project)}, headers={"origin": url})
        assert answer.headers["set-cookie"].startswith("__Host-nomaflow-")
        plain = {"origin": url.replace("https", "http")}
        assert client.post("/login", data={"code": code_of(project)}, headers=plain).status_code == 403
    other, locked = authority.issue("other", "localhost"), authority.issue("locked", "localhost", password=b"sesame")
    for cert, key in ((pair.cert, other.key), (locked.cert, locked.key)):
        code, told = refused(project, "--listen", "127.0.0.1:0", "--tls-cert", str(cert), "--tls-key", str(key))
        assert (code, "cannot be used" in told, "no password" in told) == (78, True, True), told


def test_a_console_that_is_killed_goes_on_at_its_port_with_its_sessions(project: Path, start: Launch) -> None:
    """The secret is enough: the address, the cookie and the form's token of before still serve."""
    first = start()
    url = url_of(project)
    base = f"http://127.0.0.1:{url.rpartition(':')[2]}"
    with httpx.Client(base_url=base, headers={"origin": base}, timeout=PATIENCE) as client:
        client.post("/login", data={"code": code_of(project)})
        unused = code_of(project)
        first.kill()
        told = project / ".nomaflow" / "console"
        kept = told.read_text()
        again = launch("nomaflow_console", project, log_file=first.log_file)
        try:
            eventually(lambda: told.read_text() != kept or again.ended)
            assert url_of(project) == url
            assert client.get("/kernel").status_code == 503, "a session, and no kernel"
            answer = client.post("/login", data={"code": unused})
            assert (answer.status_code, "older than the console" in answer.text) == (403, True)
        finally:
            assert again.stop() == 0, again.log


def test_a_second_console_has_the_same_address_each_day(project: Path, start: Launch) -> None:
    """A console whose usual port another one has is found by old links after a stop and a start."""
    with socket.socket() as other:
        with contextlib.suppress(OSError):  # another process has it anyway
            other.bind(("127.0.0.1", 7434))
            other.listen()
        first = start()
        url = url_of(project)
        first.stop()
        start()
        assert url_of(project) == url


def test_link_says_where_no_console_runs(project: Path, start: Launch) -> None:
    """A running console has a link; one that was never there or was killed has none."""
    command = ("console", "link", str(project))
    never = run_command(*command, folder=project)
    assert (never.code, "no console runs in" in never.err) == (78, True)
    console = start("--listen", "127.0.0.1:0")
    assert run_command(*command, folder=project).out.startswith(f"{url_of(project)}/login#")
    assert run_command("console", "link", folder=project).out.startswith(f"{url_of(project)}/login#")
    console.kill()
    assert run_command(*command, folder=project).code == 78


def test_a_stop_is_no_failure_and_leaves_no_address(project: Path, start: Launch) -> None:
    """SIGTERM, SIGINT and the signal of a dead starter end it with 0; SIGHUP and SIGUSR1 do not end it."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        console = start("--listen", "127.0.0.1:0")
        for harmless in (signal.SIGHUP, signal.SIGUSR1):
            console.process.send_signal(harmless)
        console.process.send_signal(number)
        assert console.process.wait(PATIENCE) == 0, console.log
        assert not (project / ".nomaflow" / "console").exists()
        assert "Traceback" not in console.log


def test_pages_without_a_kernel_say_so_and_keep_what_was_sent(project: Path, start: Launch) -> None:
    """A page is a 503 that opens by itself later, a form is kept with a button, JSON has the error's shape."""
    start("--listen", "127.0.0.1:0")
    base = f"http://127.0.0.1:{url_of(project).rpartition(':')[2]}"
    with httpx.Client(base_url=base, headers={"origin": base, "accept": "text/html"}, timeout=PATIENCE) as client:
        client.post("/login", data={"code": code_of(project)})
        page = client.get("/runs")
        assert page.status_code == 503
        assert "data-reload" in page.text
        assert "The kernel does not answer" in page.text
        told = client.get("/runs.json")
        assert (told.status_code, told.json()["error"]["reason"]) == (503, "KERNEL_UNREACHABLE")
        assert client.get("/login").status_code == 200
