"""The console's shell over real sockets."""

from __future__ import annotations

import httpx
import pytest
from console_system import ConsoleSystem

PAGES = ["/", "/runs", "/schedule", "/hosts", "/activity", "/kernel", "/search"]


@pytest.mark.parametrize("path", PAGES)
def test_each_page_opens_after_a_login(browser_client: httpx.Client, path: str) -> None:
    """Every page of the header opens."""
    answer = browser_client.get(path)
    assert answer.status_code == 200, answer.text


def test_without_a_session_a_page_leads_to_the_login(console: ConsoleSystem) -> None:
    """A page without a session leads to the login, which leads back."""
    with console.visitor() as visitor:
        answer = visitor.get("/runs?state=failed")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=/runs%3Fstate%3Dfailed")


def test_everything_can_be_paused_from_every_page(browser_client: httpx.Client) -> None:
    """The line about the kernel leads to the form, which pauses all."""
    for path in PAGES:
        assert '<a class="end" href="/pause">' in browser_client.get(path).text, path
    assert "Pause everything" in browser_client.get("/pause").text
