"""`nomaflow token revoke` names everything that it has ended."""

from __future__ import annotations

import pytest

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
    assert pages.withdrawn_text(target, WithdrawnView(token_ids=tokens, serials=serials)) == said
