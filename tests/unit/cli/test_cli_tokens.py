"""`nomaflow token`: what it refuses to make, and what `revoke` says that it has ended."""

from __future__ import annotations

import pytest

from cli_command import Command
from nomaflow.client.values import WithdrawnView
from nomaflow_cli import pages


@pytest.mark.parametrize(
    ("target", "tokens", "serials", "said"),
    [
        ("tok_a", ("tok_a",), (), "withdrew tok_a"),
        ("alice", ("tok_a", "tok_b"), (), "withdrew tok_a, tok_b"),
        ("host:team", ("tok_a",), ("5f",), "withdrew tok_a, 5f"),
        ("tok_a", ("tok_a", "tok_b"), ("5f",), "withdrew tok_a, and tok_b, 5f, got with it"),
        ("tok_a", ("tok_b",), (), "withdrew tok_b, got with it"),
        ("05F", (), ("4e", "5f"), "withdrew 5f, and 4e, of the same line of renewals"),
        ("tok_a", (), (), "'tok_a' had been withdrawn before"),
    ],
)
def test_a_withdrawal_names_what_it_took_along(
    target: str, tokens: tuple[str, ...], serials: tuple[str, ...], said: str
) -> None:
    """A person who names one credential reads which others are gone too, and why."""
    assert pages.access.withdrawn_text(target, WithdrawnView(token_ids=tokens, serials=serials)) == said


@pytest.mark.parametrize(
    ("option", "given", "told"),
    [
        ("--for", "0s", "the lifetime is 0 s, expected at least 1 s"),
        ("--uses", "x", "'--uses': expected a whole number of at least 0, got 'x'"),
    ],
)
async def test_a_token_that_could_not_work_is_not_made(command: Command, option: str, given: str, told: str) -> None:
    """The mistake is told before the kernel is asked."""
    done = await command("token", "create", "--host", "team", option, given, "--address", "unix:/nowhere")
    assert (done.code, told in done.err) == (2, True), done
