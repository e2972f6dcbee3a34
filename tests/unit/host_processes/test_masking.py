"""Credentials are found in whatever form they are usually shown."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomaflow_host.attempt.masking import MASK, Masker, WorkerMasker

SECRET = "p@ss wörd/+7%"
MASKER = Masker([SECRET, "short", "another-secret"])


@pytest.mark.parametrize("shown", [SECRET, quote(SECRET), quote(SECRET, safe=""), quote_plus(SECRET)])
def test_plain_and_url_encoded(shown: str) -> None:
    """A credential is masked as it is and in its form in URLs; the text around it stays."""
    assert MASKER.text(f"url=https://u:{shown}@h/?x=1") == f"url=https://u:{MASK}@h/?x=1"


@given(before=st.binary(max_size=9), after=st.binary(max_size=9), urlsafe=st.booleans())
def test_base64_wherever_it_begins(before: bytes, after: bytes, *, urlsafe: bool) -> None:
    """A credential is masked in base64, as in Basic authentication, at any offset."""
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


def test_bytes_that_are_no_text_survive() -> None:
    """They stay beside what is masked."""
    assert MASKER.text(f"\udcff {SECRET} \0") == f"\udcff {MASK} \0"


def test_several_lines_and_escapes() -> None:
    """Each line of a credential is masked by itself, also as JSON and repr write it."""
    masker = Masker(["-----BEGIN\nfirst-half\nsecond-half", "quo'te\"\\tö"])
    assert masker.text("a second-half b") == f"a {MASK} b"
    for shown in (json.dumps("quo'te\"\\tö"), repr("quo'te\"\\tö"), ascii("quo'te\"\\tö"), "quo'te\"\\tö"):
        assert Masker(["quo'te\"\\tö"]).text(shown).strip("'\"") == MASK


def test_json_is_masked_in_texts_keys_and_numbers() -> None:
    """A result stays the JSON that it was, but for what holds a credential."""
    masker = Masker(["secret-1", "123456789"])
    text = '{"a":["x secret-1","y",{"secret-1":true}],"n":123456789,"m":5,"\\u00e9":null}'
    assert json.loads(masker.json(text)) == {"a": [f"x {MASK}", "y", {MASK: True}], "n": MASK, "m": 5, "é": None}
    untouched = '{"big": 1' + "0" * 4000 + "}"
    assert masker.json(untouched) is untouched
    assert masker.json("") == ""


def test_a_worker_masks_what_its_attempts_have() -> None:
    """An attempt's credentials are masked while it runs, and for a while after it."""
    masker = WorkerMasker(["of-the-pool"])
    masker.add(1, ["of-the-first"])
    masker.add(1, ["of-the-first-too"])
    masker.add(2, ["of-the-second"])
    masker.leave(1)
    masker.add(3, [])
    for secret in ("of-the-pool", "of-the-first", "of-the-first-too", "of-the-second"):
        assert masker.now.text(secret) == MASK
    for slot in range(10, 40):
        masker.add(slot, [f"another-secret-{slot}"])
        masker.leave(slot)
    assert masker.now.text("of-the-first") == "of-the-first"
    assert masker.now.text("of-the-second of-the-pool another-secret-39") == f"{MASK} {MASK} {MASK}"


def test_the_credentials_of_connectors_do_not_pile_up() -> None:
    """A plugin may make others for each attempt: a line is searched for the last ones, and not for all of a week."""
    masker = WorkerMasker(["of-the-pool"])
    for number in range(100):
        masker.learn([f"made-for-attempt-{number:02}"])
        masker.learn(["made-for-all"])
    assert masker.now.text("of-the-pool made-for-attempt-99 made-for-all") == f"{MASK} {MASK} {MASK}"
    assert len(masker._known) <= 20


PEM = (
    "-----BEGIN PRIVATE KEY-----\n"
    + "\n".join("Ab3/" * 15 + f"{n:04d}" for n in range(20))
    + "\n-----END PRIVATE KEY-----"
)
LONG = "kY7-long.credential_of~forty+characters=9Q"


@pytest.mark.parametrize("secret", [SECRET, LONG, "sixsix"])
def test_hex_and_base32(secret: str) -> None:
    """A credential is masked in hex, in small and capital letters, and in base32."""
    raw, masker = secret.encode(), Masker([secret])
    for shown in (raw.hex(), raw.hex().upper(), base64.b32encode(raw).decode()):
        assert masker.text(f"<{shown}>") == f"<{MASK}>"
        assert masker.text(f"<{(raw + b'more').hex()}>").startswith(f"<{MASK}")


@given(at=st.integers(1, len(LONG) - 1), indent=st.sampled_from(["", "  ", '"']))
def test_a_credential_on_two_lines(at: int, indent: str) -> None:
    """A credential that ends on the next line leaves at most half of itself, on separate lines and in one text."""
    masker = Masker([LONG])
    first, second = f"token: {LONG[:at]}", f"{indent}{LONG[at:]} and more"
    for shown in (masker.text(first) + "\n" + masker.text(second), masker.text(f"{first}\n{second}")):
        assert MASK in shown
        left = max((size for size in range(len(LONG) + 1) if LONG[:size] in shown or LONG[-size:] in shown), default=0)
        assert left <= len(LONG) // 2


def test_a_part_of_a_credential_elsewhere_is_a_word() -> None:
    """The beginning of a credential is not masked if the line goes on otherwise, or if the credential is short."""
    masker = Masker(["production-database-pw", "password-123"])
    text = "to production-database only, as a password"
    assert masker.text(text) is text


def test_a_key_of_many_lines_in_every_form() -> None:
    """Of a PEM key, no line is left: alone, in JSON, in hex, nor in base64 that tools wrap after 76 characters."""
    masker, raw = Masker([PEM]), PEM.encode()
    shown = [*PEM.splitlines(), json.dumps({"key": PEM}), repr(PEM), raw.hex(), base64.b64encode(raw).decode()]
    shown += base64.encodebytes(raw).decode().splitlines()[:-1]
    for text in shown:
        masked = masker.text(text)
        assert len(masked) < 40, masked


def test_url_encoding_in_small_letters() -> None:
    """A credential is masked in a URL whose encoder writes ``%2f``."""
    assert Masker(["a/b:c@d/e"]).text("x=a%2fb%3ac%40d%2fe&y") == f"x={MASK}&y"


def test_bytes_of_a_credential() -> None:
    """The ``repr`` of a credential's bytes is recognised."""
    assert Masker([SECRET]).text(repr(SECRET.encode())) == f"b'{MASK}'"


def test_many_credentials_are_found_like_few() -> None:
    """With many credentials, encoded ones are looked for in another way, and found as well."""
    secrets = [f"{n:02d}-credential-{n * n}" for n in range(40)]
    masker = Masker(secrets)
    for secret in secrets:
        raw = secret.encode()
        for shown in (secret, raw.hex(), base64.b64encode(raw).decode(), base64.b64encode(b"u:" + raw).decode()):
            masked = masker.text(f"line with {shown} in it")
            assert MASK in masked, shown
            assert len(masked) <= len("line with *** in it") + 4
    text = "a line without any, but with /a/path/that/is/long/enough/to/be/something-encoded"
    assert masker.text(text) is text
