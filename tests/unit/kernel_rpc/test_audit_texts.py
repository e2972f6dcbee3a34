"""The audit names each call's objects, reasons and credentials' ids, and no secret."""

from __future__ import annotations

from typing import Any

import pytest

from nomaflow_api.v1 import access_service_pb2 as access
from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_kernel.access.audit_texts import address_of, correlation_of, note_of, target_of, trace_of

SECRET = "nft1.hunter2"  # of a test
TOKEN = access.Token(token_id="tok_1")

CALLS: dict[str, tuple[Any, Any, str, str, str]] = {
    "ReloadHost": (
        kernel.ReloadHostRequest(host="a", force=True), kernel.ReloadHostResponse(), "host:a", "forced", ""
    ),
    "DeclareEnded": (
        kernel.DeclareEndedRequest(host="a", incarnation="i" * 8, evidence="its job ended", by="bob"),
        kernel.DeclareEndedResponse(known=True, attempts=2),
        "host:a",
        "for bob; its job ended",
        "i" * 8,
    ),
    "InviteInstance": (
        access.InviteInstanceRequest(host="a"),
        access.InviteInstanceResponse(token=TOKEN, secret=SECRET),
        "host:a",
        "",
        "tok_1",
    ),
    "ForgetHost": (
        kernel.ForgetHostRequest(host="a"),
        kernel.ForgetHostResponse(released_job_ids=[f"j{n}" for n in range(7)]),
        "host:a",
        "free now job:j0, job:j1, job:j2, job:j3, job:j4 and 2 more",
        "",
    ),
    "CreateToken": (
        access.CreateTokenRequest(
            kind=access.TOKEN_KIND_SERVICE, name="ci", roles=["operator job:a.*"], grants=["read *", "logs *"]
        ),
        access.CreateTokenResponse(token=TOKEN, secret=SECRET),
        "service:ci",
        "roles operator job:a.*; grants read *, logs *",
        "tok_1",
    ),
    "RevokeTokens": (
        access.RevokeTokensRequest(target="host:b"),
        access.RevokeTokensResponse(token_ids=["tok_1"], serials=["0a", "0b"]),
        "host:b",
        "",
        "tok_1, 0a, 0b",
    ),
    "RotateToken": (
        access.RotateTokenRequest(token_id="tok_0"),
        access.RotateTokenResponse(token=TOKEN, secret=SECRET),
        "tok_0",
        "",
        "tok_1",
    ),
    "RenewAuthority": (
        access.RenewAuthorityRequest(replace=True), access.RenewAuthorityResponse(), "", "a new authority", ""
    ),
    "Enrol": (
        access.EnrolRequest(secret=SECRET), access.EnrolResponse(name="anna", token=SECRET), "anna", "", ""
    ),
    "IntroduceManifest": (
        gateway.IntroduceManifestRequest(incarnation="i", digest="sha256:0", explicit=True),
        gateway.IntroduceManifestResponse(disabled_job_ids=["x"]),
        "",
        "on request; disabled job:x",
        "sha256:0",
    ),
    "CancelRun": (kernel.CancelRunRequest(run_id="run_1", by="bob", why="w"), None, "run_1", "for bob; w", ""),
    "Pause": (kernel.PauseRequest(job_id="j"), None, "job:j", "", ""),
}  # fmt: skip


@pytest.mark.parametrize("method", CALLS)
def test_each_call_is_told_by_names(method: str) -> None:
    """Target, note and correlation say what was done to what; a secret in request or answer is in none of them."""
    request, response, target, note, correlation = CALLS[method]
    found = (target_of(request) or target_of(response), note_of(request, response), correlation_of(request, response))
    assert found == (target, note, correlation)
    assert SECRET not in str(found)


def test_addresses_and_traces() -> None:
    """The port is left out, since each connection has another; a malformed trace is no trace."""
    assert address_of("ipv4:10.0.0.7:51234") == "ipv4:10.0.0.7"
    assert address_of("ipv6:%5B::1%5D:51234") == "ipv6:[::1]"
    assert address_of("unix:") == "unix:"
    assert trace_of(f"00-{'ab' * 16}-{'cd' * 8}-01") == f"trace {'ab' * 16}"
    assert [trace_of(text) for text in ("", "00-", "x" * 20, "00-" + "é" * 32)] == [""] * 4
