"""Links that log a person in."""

from __future__ import annotations

import pytest

from nomaflow_console.access.links import LoginLinks, LoginRefused, make_code
from nomaflow_console.access.secret import ConsoleSecret

SECRET = ConsoleSecret(value=b"s" * 32)
STARTED = 1_000_000.0


@pytest.mark.parametrize("minutes", [0, 9.9])
def test_a_link_is_good_for_ten_minutes(minutes: float) -> None:
    """A link that is used within ten minutes returns the name of its maker."""
    links = LoginLinks(secret=SECRET, started=STARTED, clock=lambda: STARTED + minutes * 60)
    assert links.use(make_code(SECRET, "ann", now=STARTED)) == "ann"


@pytest.mark.parametrize("minutes", [10.1, 100_000])
def test_an_older_link_is_refused(minutes: float) -> None:
    """A link is refused after ten minutes, though nobody has used it."""
    links = LoginLinks(secret=SECRET, started=STARTED, clock=lambda: STARTED + minutes * 60)
    with pytest.raises(LoginRefused, match="this link is older than 10 minutes"):
        links.use(make_code(SECRET, "ann", now=STARTED))
