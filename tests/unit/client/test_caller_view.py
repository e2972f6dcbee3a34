"""The client reads grants as the kernel does, so that a program knows what to offer to its user."""

from __future__ import annotations

import pytest

from nomaflow.client.values import CallerView
from nomaflow_kernel.access.grants import Grant, Target, Verb
from nomaflow_kernel.access.principals import Principal, PrincipalKind

_GRANTS = (
    (),
    ("read *",),
    ("trigger job:a.one",),
    ("trigger job:a.*", "read tag:night"),
    ("operate host:teama", "cancel job:b.one"),
    ("read host:*", "read job:", "read tag:", "nonsense"),
)
_TARGETS = (
    Target(),
    Target(job_id="a.one", host="teama", tags=("night",)),
    Target(job_id="a.one.more"),
    Target(job_id="b.one", host="teamb"),
    Target(host="teama"),
    Target(host="teamb"),
)


@pytest.mark.parametrize("texts", _GRANTS)
def test_the_client_allows_what_the_kernel_allows(texts: tuple[str, ...]) -> None:
    """Every verb on every target: a button that is shown works, and one that works is shown."""
    readable = tuple(Grant.parse(text) for text in texts if "nonsense" not in texts)
    principal = Principal(kind=PrincipalKind.USER, name="ann", grants=readable)
    caller = CallerView(name="ann", kind="user", grants=texts)
    for verb in Verb:
        assert "nonsense" in texts or caller.may_some(verb) == principal.may_some(verb)
        for target in _TARGETS:
            may = caller.may(verb, job_id=target.job_id, host=target.host, tags=target.tags)
            assert may == principal.may(verb, target), (verb, target)
