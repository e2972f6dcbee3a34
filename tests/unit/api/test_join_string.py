"""A join string survives being copied and pasted, and a damaged one is refused without repeating its secret."""

from __future__ import annotations

import base64
import json

import pytest

from nomaflow_api.join_string import JOIN_PREFIX, JoinString, JoinStringError

_PEM = "-----BEGIN CERTIFICATE-----\n" + base64.b64encode(bytes(range(48))).decode() + "\n-----END CERTIFICATE-----\n"
_STRING = JoinString(
    at=("tls://kernel.example:7435", "tls://[::1]:7435"),
    authorities_pem=_PEM + _PEM,
    kind="host",
    name="teamb",
    secret="s" * 43,
)


def _encoded(**changes: object) -> str:
    value = json.loads(base64.urlsafe_b64decode(_STRING.encode().removeprefix(JOIN_PREFIX) + "=="))
    text = base64.urlsafe_b64encode(json.dumps(value | changes).encode()).decode()
    return JOIN_PREFIX + text.rstrip("=")


def test_a_string_comes_back_as_it_was_made() -> None:
    text = _STRING.encode()
    assert text.startswith("nfj1.")
    assert len(text.split()) == 1
    assert JoinString.decode(f"  {text}\n") == _STRING


def test_the_form_is_the_one_that_the_protos_tell() -> None:
    """Programs in other languages read it by that."""
    text = _STRING.encode().removeprefix("nfj1.")
    assert not text.endswith("=")
    assert json.loads(base64.urlsafe_b64decode(text + "==")) == {
        "v": 1,
        "at": ["tls://kernel.example:7435", "tls://[::1]:7435"],
        "ca": [base64.urlsafe_b64encode(bytes(range(48))).decode()] * 2,
        "kind": "host",
        "name": "teamb",
        "secret": "s" * 43,
    }


def test_a_kernel_whose_authority_the_system_knows_sends_none_along() -> None:
    string = JoinString(at=("tls://k:1",), kind="user", name="alice", secret="x")
    assert JoinString.decode(string.encode()).authorities_pem == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nft1.abc",
        "nfj1.",
        "nfj1.!!!!",
        "nfj1.é",
        "nfj1." + base64.urlsafe_b64encode(b"[" * 30_000).decode(),
        "nfj1." + "A" * 70_000,
        _STRING.encode()[:-20],
        _encoded(v=2),
        _encoded(at=[]),
        _encoded(at=["unix:/tmp/x"]),
        _encoded(at="tls://k:1"),
        _encoded(at=["tls://k"]),
        _encoded(ca="x"),
        _encoded(ca=["*"]),
        _encoded(kind="owner"),
        _encoded(name="../x"),
        _encoded(name=7),
        _encoded(secret=""),
        _encoded(secret="a b"),
    ],
)
def test_a_damaged_string_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(JoinStringError) as caught:
        JoinString.decode(text)
    assert "ssss" not in str(caught.value)
    assert "join string" in str(caught.value)


def test_the_secret_is_not_in_the_repr() -> None:
    assert "ssss" not in repr(_STRING)
