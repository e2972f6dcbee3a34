"""Credentials are found in whatever form they are usually shown."""

from __future__ import annotations

import base64
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomaflow_host.masking import MASK, Masker

SECRET = "p@ss wörd/+7%"
MASKER = Masker([SECRET, "short", "another-secret"])


@pytest.mark.parametrize("shown", [SECRET, quote(SECRET), quote(SECRET, safe=""), quote_plus(SECRET)])
def test_plain_and_url_encoded(shown: str) -> None:
    """A credential is masked as it is and as URLs show it; what is around it stays."""
    assert MASKER.text(f"url=https://u:{shown}@h/?x=1") == f"url=https://u:{MASK}@h/?x=1"


@given(before=st.binary(max_size=9), after=st.binary(max_size=9), urlsafe=st.booleans())
def test_base64_wherever_it_begins(before: bytes, after: bytes, *, urlsafe: bool) -> None:
    """In base64, as Basic authentication shows it, nothing of a credential can be read, whatever stands before it."""
    encode = base64.urlsafe_b64encode if urlsafe else base64.b64encode
    shown = MASKER.text(f"Basic {encode(before + SECRET.encode() + after).decode()}!")
    assert MASK in shown
    assert shown.startswith("Basic ")
    assert shown.endswith("!")
    left = shown.removeprefix("Basic ").removesuffix("!").split(MASK)
    assert len("".join(left).rstrip("=")) <= (len(before) + len(after)) * 4 // 3 + 2


def test_several_in_one_text() -> None:
    """Every credential of a text is masked, the longer one where one holds another."""
    masker = Masker(["secret-1", "secret-1-longer"])
    assert masker.text("a secret-1-longer b secret-1 c") == f"a {MASK} b {MASK} c"


def test_what_is_no_credential_stays() -> None:
    """Words shorter than six characters and other text stay, as the very same object."""
    text = "a short text"
    assert MASKER.text(text) is text
    assert Masker(()).text(text) is text


def test_lines_of_bytes() -> None:
    """Bytes that are no UTF-8 survive beside what is masked."""
    assert MASKER.line(b"\xff " + SECRET.encode() + b" \x00") == b"\xff " + MASK.encode() + b" \x00"
    line = b"\xff\xfe"
    assert MASKER.line(line) is line
