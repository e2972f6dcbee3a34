"""Every rule of access, over real sockets: what is refused changes nothing."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Iterator, Mapping

import httpx
import pytest
from console_system import ConsoleSystem

from nomaflow_console.access.links import make_code
from nomaflow_console.access.secret import ConsoleSecret
from nomaflow_console.access.sessions import Session, Sessions
from nomaflow_console.pages import ALL_ROUTES
from real_system import PATIENCE

DAY = 24 * 3600


@pytest.fixture
def visitor(console: ConsoleSystem) -> Iterator[httpx.Client]:
    """A client without a session."""
    with console.visitor() as client:
        yield client


def secret_of(console: ConsoleSystem) -> ConsoleSecret:
    """Return the secret of a console."""
    return ConsoleSecret.of(console.project / ".nomaflow")


def sessions_of(console: ConsoleSystem, *, ago: float = 0.0, secret: ConsoleSecret | None = None) -> Sessions:
    """Return what makes cookies that this console would have made some time ago."""
    nowhere = console.project / ".nomaflow" / "nowhere"
    clock = lambda: time.time() - ago  # noqa: E731  # short
    secret = secret or secret_of(console)
    return Sessions(secret=secret, ended_file=nowhere, secure=False, takes_tokens=False, clock=clock)


def cookie_pair(sessions: Sessions, session: Session) -> dict[str, str]:
    """Return the header that shows a session."""
    return {"cookie": sessions.set_cookie(session).partition(";")[0]}


def csrf_of(client: httpx.Client) -> str:
    """Return the token of a session's forms."""
    found = re.search(r'name="csrf" value="([0-9a-f]{32})"', client.get("/kernel").text)
    assert found is not None
    return found[1]


def is_logged_in(client: httpx.Client) -> bool:
    """Return whether the session is still there."""
    return client.get("/kernel").status_code == 200


# Where a request comes from


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "", "127.0.0.1:1", "x.localhost:{port}", "[::1"])
def test_a_request_for_another_host_is_refused(console: ConsoleSystem, client: httpx.Client, host: str) -> None:
    """A name that was rebound to our address gets nothing, not even the page of a refusal."""
    port = console.base.rpartition(":")[2]
    answer = client.get("/kernel", headers={"host": host.replace("{port}", port)})
    assert answer.status_code in (400, 403)
    assert "csrf" not in answer.text
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("host", ["{id}.localhost", "127.0.0.1", "localhost"])
def test_the_names_of_this_machine_are_answered(console: ConsoleSystem, client: httpx.Client, host: str) -> None:
    """The console's own name, the loopback address and localhost serve."""
    port = console.base.rpartition(":")[2]
    name = host.replace("{id}", secret_of(console).id)
    assert client.get("/kernel", headers={"host": f"{name}:{port}"}).status_code == 200


FOREIGN: list[Mapping[str, str]] = [
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": ""},
    {"origin": "https://127.0.0.1:{port}"},
    {"origin": "http://127.0.0.1:1"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "none"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_a_form_from_another_page_is_refused_and_changes_nothing(
    console: ConsoleSystem, client: httpx.Client, headers: Mapping[str, str]
) -> None:
    """A form that another origin, or nobody, sends is refused, even with the right token."""
    port = console.base.rpartition(":")[2]
    sent = {name: value.replace("{port}", port) for name, value in headers.items()}
    answer = client.post("/logout", data={"csrf": csrf_of(client)}, headers=sent)
    assert answer.status_code == 403
    assert "does not come from a page of this console" in answer.text
    assert is_logged_in(client)


def test_a_form_without_an_origin_at_all_is_refused(console: ConsoleSystem, client: httpx.Client) -> None:
    """Leaving the header out is no way around it."""
    token = csrf_of(client)
    del client.headers["origin"]
    assert client.post("/logout", data={"csrf": token}).status_code == 403
    assert is_logged_in(client)


@pytest.mark.parametrize("token", ["", "0" * 32, "é"])
def test_a_form_without_the_sessions_token_is_refused_and_its_values_are_kept(client: httpx.Client, token: str) -> None:
    """The page of the refusal has the form again, with its values and the right token."""
    answer = client.post("/logout", data={"csrf": token, "why": 'it\'s <late> & "over"'})
    assert answer.status_code == 403
    assert 'name="why" value="it&#39;s &lt;late&gt; &amp; &#34;over&#34;"' in answer.text
    assert f'name="csrf" value="{csrf_of(client)}"' in answer.text
    assert is_logged_in(client)


def test_the_token_of_one_person_does_not_serve_another(console: ConsoleSystem, client: httpx.Client) -> None:
    """A token belongs to a person's sessions."""
    sessions = sessions_of(console)
    bob = sessions.start(name="bob", principal="owner")
    with console.visitor() as other:
        other.headers.update(cookie_pair(sessions, bob))
        assert other.post("/logout", data={"csrf": csrf_of(client)}).status_code == 403
        assert is_logged_in(other)
        assert other.post("/logout", data={"csrf": bob.csrf}).status_code == 303


def test_reading_every_address_changes_nothing(console: ConsoleSystem, client: httpx.Client) -> None:
    """No GET does anything: the kernel has no new event of ours, and the session is still there."""
    api = console.system.api
    run = api.wait(api.trigger("seed-data").run_id)
    names = {"job_id": "month-end", "run_id": run.run_id, "name": "demo", "host": "demo"}
    runs_before = {each.run_id for each in api.list_runs() if each.trigger.kind == "manual"}
    jobs_before = {job.job_id: job.pause for job in api.list_jobs().jobs}
    for route in ALL_ROUTES:
        path = re.sub(r"\{(\w+)(:\w+)?\}", lambda found: names.get(found[1], "x"), route.path)
        answer = client.request("GET", path, follow_redirects=False)
        assert answer.status_code < 500, (path, answer.text)
    assert {each.run_id for each in api.list_runs() if each.trigger.kind == "manual"} == runs_before
    assert {job.job_id: job.pause for job in api.list_jobs().jobs} == jobs_before
    assert is_logged_in(client)


# Login


def test_a_link_works_once(console: ConsoleSystem, visitor: httpx.Client) -> None:
    """The second use of a link is refused with the way out."""
    code = console.code()
    assert visitor.post("/login", data={"code": code}).status_code == 303
    again = visitor.post("/login", data={"code": code})
    assert again.status_code == 403
    assert "was used before" in again.text
    assert "nomaflow console link" in again.text
    assert "set-cookie" not in again.headers


def test_a_whole_link_may_be_pasted_into_the_field(console: ConsoleSystem, visitor: httpx.Client) -> None:
    """Its code is what comes after the hash."""
    assert visitor.post("/login", data={"code": f" {console.link()}\n"}).status_code == 303


def test_a_link_leads_to_the_consoles_own_host_name_with_its_code_after_the_hash(console: ConsoleSystem) -> None:
    """The code is where no server and no log sees it."""
    assert re.fullmatch(r"http://[0-9a-f]{12}\.localhost:\d+/login#[\w-]{50,}", console.link())


@pytest.mark.parametrize(
    ("age", "words"), [(-60, "older than 10 minutes"), (100_000, "older than the console")], ids=["future", "old"]
)
def test_a_link_of_another_time_is_refused(
    console: ConsoleSystem, visitor: httpx.Client, age: float, words: str
) -> None:
    """No link is good that is from before the console's start, or from a time that has yet to come."""
    code = make_code(secret_of(console), "ann", now=time.time() - age)
    answer = visitor.post("/login", data={"code": code})
    assert answer.status_code == 403
    assert words in answer.text
    assert not is_logged_in(visitor)


def test_a_code_that_another_secret_has_signed_is_refused(visitor: httpx.Client) -> None:
    """A code that another secret has signed is refused, however new it is, and logs nobody in."""
    answer = visitor.post("/login", data={"code": make_code(ConsoleSecret(value=b"x" * 32), "mallory")})
    assert answer.status_code == 403
    assert "not one of this console" in answer.text
    assert not is_logged_in(visitor)


@pytest.mark.parametrize("code", ["", "x", "é", "A" * 5_000], ids=["empty", "x", "é", "long"])
def test_a_code_of_nobody_is_refused(visitor: httpx.Client, code: str) -> None:
    """Noise logs nobody in."""
    answer = visitor.post("/login", data={"code": code})
    assert answer.status_code == 403
    assert "not one of this console" in answer.text
    assert not is_logged_in(visitor)


def test_a_changed_code_is_refused(console: ConsoleSystem, visitor: httpx.Client) -> None:
    """A code whose end was changed logs in nobody; the true one still serves."""
    code = console.code()
    other = code[:-4] + ("AAAA" if code[-4:] != "AAAA" else "BBBB")
    assert visitor.post("/login", data={"code": other}).status_code == 403
    assert visitor.post("/login", data={"code": code}).status_code == 303


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:1", ""])
def test_a_login_leads_nowhere_else(console: ConsoleSystem, visitor: httpx.Client, target: str) -> None:
    """The page to go on to is one of ours."""
    data = {"code": console.code(), "next": target}
    assert visitor.post("/login", data=data).headers["location"] == "/"


def test_a_token_says_nothing_at_the_owners_socket(visitor: httpx.Client) -> None:
    """A console that calls the kernel at its owner's socket takes no token: it would give its owner's rights."""
    answer = visitor.post("/login", data={"token": "anything"})
    assert answer.status_code == 403
    assert "at its owner&#39;s socket" in answer.text
    assert 'name="token"' not in answer.text


# Sessions


def test_the_cookie_is_for_this_console_only(console: ConsoleSystem, visitor: httpx.Client) -> None:
    """Scripts cannot read it, other sites do not send it, and its name is this console's."""
    answer = visitor.post("/login", data={"code": console.code()})
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"nomaflow-{secret_of(console).id}=")
    assert cookie.endswith("; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict")


@pytest.mark.parametrize(("created", "seen"), [(13 * 3600, 13 * 3600), (8 * DAY, 60)], ids=["12 h idle", "7 days old"])
def test_an_old_session_is_over(console: ConsoleSystem, visitor: httpx.Client, created: float, seen: float) -> None:
    """A session ends if it was not used for 12 hours, or began more than 7 days ago."""
    begun = sessions_of(console, ago=created).start(name="ann", principal="owner")
    visitor.headers.update(cookie_pair(sessions_of(console, ago=seen), begun))
    assert visitor.get("/runs").headers["location"] == "/login?next=/runs"
    assert visitor.get("/live?view=").status_code == 401  # whoever reads a stream takes a page for one that is open


def test_a_session_in_use_is_renewed_and_never_beyond_its_seven_days(
    console: ConsoleSystem, visitor: httpx.Client
) -> None:
    """A session that is used goes on until its seven days are over."""
    begun = sessions_of(console, ago=7 * DAY - 3600).start(name="ann", principal="owner")
    visitor.headers.update(cookie_pair(sessions_of(console, ago=6 * 3600), begun))
    renewed = visitor.get("/kernel").headers["set-cookie"]
    seconds = int(re.search(r"Max-Age=(\d+)", renewed)[1])  # type: ignore[index]
    assert 3_500 < seconds <= 3_600
    assert "set-cookie" not in visitor.get("/live?view=&once=1").headers


def test_a_form_that_was_open_when_the_session_ended_is_kept_and_works_after_a_login(
    console: ConsoleSystem, visitor: httpx.Client
) -> None:
    """The page that says so holds the values; after a login in another tab its button works."""
    old = sessions_of(console, ago=13 * 3600)
    ann = old.start(name="ann", principal="owner")
    visitor.headers.update(cookie_pair(old, ann))
    form = {"csrf": ann.csrf, "next": "/runs", "zone": "UTC"}
    answer = visitor.post("/preferences", data=form)
    assert answer.status_code == 401
    assert "Your session is over" in answer.text
    for name, value in form.items():
        assert f'name="{name}" value="{value}"' in answer.text
    fresh = sessions_of(console)
    visitor.headers.update(cookie_pair(fresh, fresh.start(name="ann", principal="owner")))
    assert visitor.post("/preferences", data=form).headers["location"] == "/runs"


def test_a_logout_ends_a_session_for_every_copy_and_after_a_restart(
    console: ConsoleSystem, client: httpx.Client
) -> None:
    """A copied cookie ends with its session, and a console that is killed and started again still knows."""
    copied = dict(client.cookies)
    answer = client.post("/logout", data={"csrf": csrf_of(client)})
    assert "Max-Age=0" in answer.headers["set-cookie"]
    with console.logged_in() as other:
        console.console.kill()
        console.start()
        other.base_url = console.base
        assert is_logged_in(other), "a restart must not end the sessions of others"
    with console.visitor() as thief:
        thief.cookies.update(copied)
        assert not is_logged_in(thief)


def test_a_cookie_of_another_console_is_none(console: ConsoleSystem, visitor: httpx.Client) -> None:
    """Another user's console, whose cookie a browser may send to ours, cannot make a session of ours."""
    other = sessions_of(console, secret=ConsoleSecret(value=b"y" * 32))
    header = other.set_cookie(other.start(name="mallory", principal="owner"))
    value = header.partition(";")[0].partition("=")[2]
    for name in (other.cookie, sessions_of(console).cookie):
        assert visitor.get("/kernel", headers={"cookie": f"{name}={value}"}).status_code == 303


@pytest.mark.parametrize("cookie", ["x", "{name}=", "{name}=x", "{name}=" + "A" * 2_000, '{name}="', "é=1"])
def test_a_cookie_that_is_noise_is_none(console: ConsoleSystem, visitor: httpx.Client, cookie: str) -> None:
    """Malformed cookies lead to the login like none at all."""
    sent = cookie.replace("{name}", sessions_of(console).cookie).encode()
    assert visitor.get("/kernel", headers=[(b"cookie", sent)]).status_code == 303


@pytest.mark.parametrize("other", ['prefs={"a": 1}', "name=Zo\u00eb", "a b=1", "flag", '"'])
def test_cookies_of_other_pages_do_not_end_a_session(console: ConsoleSystem, visitor: httpx.Client, other: str) -> None:
    """Pages of the same machine or domain set cookies of any form, which the browser sends along, and often first."""
    sessions = sessions_of(console)
    own = cookie_pair(sessions, sessions.start(name="ann", principal="owner"))["cookie"]
    for sent in (f"{other}; {own}", f"{own}; {other}"):
        assert visitor.get("/kernel", headers=[(b"cookie", sent.encode())]).status_code == 200


# What each answer carries, and how much a request may


@pytest.mark.parametrize("path", ["/kernel", "/login", "/nowhere", "/live?view=&once=1", "/runs.json", "/static/x/y"])
def test_every_answer_has_the_headers_that_protect_it(client: httpx.Client, path: str) -> None:
    """The headers forbid content from elsewhere, frames and caches."""
    headers = client.get(path).headers
    assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cross-origin-opener-policy"] == headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers


def test_a_file_is_kept_for_ever_at_the_address_with_its_hash_and_nowhere_else(client: httpx.Client) -> None:
    """A changed file has another address; a wrong hash and a way out of the folder find nothing."""
    address = re.search(r'href="(/static/[0-9a-f]{12}/page-bundle.css)"', client.get("/kernel").text)
    assert address is not None
    answer = client.get(address[1])
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-encoding"] == "gzip"
    digest = address[1].split("/")[2]
    for path in ("/static/000000000000/css/console.css", f"/static/{digest}/../settings.py", f"/static/{digest}/"):
        assert client.get(path).status_code == 404
    raw = f"/static/{digest}/..%2f..%2fsettings.py"
    assert client.get(raw).status_code == 404


def test_a_body_of_more_than_512_kib_is_refused(client: httpx.Client) -> None:
    """It is refused by its length, and while it arrives if it has none."""
    long = b"csrf=" + b"x" * (512 * 1024)
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert client.post("/logout", content=long, headers=form).status_code == 413
    parts = (long[at : at + 65_536] for at in range(0, len(long), 65_536))
    assert client.post("/logout", content=parts, headers=form).status_code == 413
    assert is_logged_in(client)


def test_the_form_of_a_job_of_a_thousand_steps_is_read(client: httpx.Client) -> None:
    """Each step has a switch and some values; a form that is not read looks as if it came from another session."""
    many = {f"s.step-{number}.value": "1" for number in range(15_000)}
    answer = client.post("/preferences", data={"csrf": csrf_of(client), "next": "/hosts", **many})
    assert (answer.status_code, answer.headers.get("location")) == (303, "/hosts")


def test_connections_that_ask_for_nothing_keep_nobody_out(console: ConsoleSystem, visitor: httpx.Client) -> None:
    """More of them than the console answers at once, silent or in the middle of a request, and a browser is served."""
    port = int(console.base.rpartition(":")[2])
    head = f"POST /login HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: {console.base}\r\nContent-Length: 9\r\n"
    begun = (b"", head.encode(), f"{head}\r\ncode=".encode())
    with contextlib.ExitStack() as stack:
        for number in range(1_200):
            idle = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE))
            with contextlib.suppress(ConnectionError):  # one of the first, which had to go
                idle.sendall(begun[number % 3])
        assert visitor.get("/login").status_code == 200


def test_an_unknown_page_is_a_404_with_near_names(client: httpx.Client) -> None:
    """A misspelt address says which was probably meant."""
    answer = client.get("/shedule")
    assert answer.status_code == 404
    assert 'Did you mean <a href="/schedule">Schedule</a>?' in answer.text
