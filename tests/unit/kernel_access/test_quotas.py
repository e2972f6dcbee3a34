"""Quotas: what is refused, and when the next try is taken."""

from __future__ import annotations

import pytest

from nomaflow_kernel.access.principals import ANYONE, OWNER, Principal, PrincipalKind
from nomaflow_kernel.access.quotas import Quotas
from nomaflow_kernel.domain.clock import SystemClock
from nomaflow_kernel.domain.errors import QuotaExceeded
from nomaflow_project.models.settings_file import QuotaSection

ANN = Principal(kind=PrincipalKind.USER, name="ann")
BEN = Principal(kind=PrincipalKind.SERVICE, name="ben")
LIMITS = QuotaSection(calls_per_second=2, triggers_per_second=0.5, streams=2, queued_runs=3, bytes_per_second=1024)


class HandClock(SystemClock):
    """A clock that a test sets forward."""

    now = 1000.0

    def monotonic(self) -> float:
        """Return the test's time."""
        return self.now


@pytest.fixture
def clock() -> HandClock:
    """A clock that stands still."""
    return HandClock()


@pytest.fixture
def quotas(clock: HandClock) -> Quotas:
    """Small quotas."""
    return Quotas(limits=LIMITS, clock=clock)


def wait_of(call: object, *arguments: object) -> float:
    """Return the wait that a refusal names."""
    with pytest.raises(QuotaExceeded) as caught:
        call(*arguments)  # type: ignore[operator]  # a method of quotas
    assert caught.value.retry_seconds is not None
    return caught.value.retry_seconds


def test_the_wait_that_a_refusal_names_is_the_true_one(quotas: Quotas, clock: HandClock) -> None:
    """A19: a moment before it the call is refused, and after it the call is taken."""
    for _ in range(20):
        quotas.call(ANN)
    wait = wait_of(quotas.call, ANN)
    assert wait == pytest.approx(0.5)
    clock.now += wait - 0.01
    assert wait_of(quotas.call, ANN) == pytest.approx(0.01)
    clock.now += 0.011
    quotas.call(ANN)
    assert wait_of(quotas.call, ANN) > 0.4
    quotas.call(BEN)


def test_a_refused_call_costs_nothing(quotas: Quotas, clock: HandClock) -> None:
    """A caller who keeps asking is let in as soon as one who waits."""
    for _ in range(20):
        quotas.call(ANN)
    for _ in range(100):
        wait_of(quotas.call, ANN)
    clock.now += 0.5
    quotas.call(ANN)


def test_a_batch_above_the_allowance_is_taken_once_and_paid_for_afterwards(quotas: Quotas, clock: HandClock) -> None:
    """Otherwise it could never be started; thirty runs a minute and a batch of 100 mean over two minutes of silence."""
    quotas.triggers(ANN, 100)
    assert wait_of(quotas.triggers, ANN, 1) == pytest.approx((1 + 70) / 0.5)
    clock.now += 142
    quotas.triggers(ANN, 1)
    assert wait_of(quotas.triggers, ANN, 30) > 0


def test_large_requests_use_up_their_own_allowance(quotas: Quotas) -> None:
    """Bytes are counted besides calls, those of a stream's messages too."""
    quotas.request(ANN, 10_000)
    quotas.message(ANN, 240)
    assert wait_of(quotas.request, ANN, 512) == wait_of(quotas.message, ANN, 512) == pytest.approx(0.5)
    quotas.request(BEN, 512)


def test_a_closed_stream_makes_room_for_another(quotas: Quotas) -> None:
    """Two at once; each end counts, also by an error."""
    with quotas.stream(ANN):
        with pytest.raises(RuntimeError, match="gone"), quotas.stream(ANN):
            raise RuntimeError("gone")
        with quotas.stream(ANN), pytest.raises(QuotaExceeded), quotas.stream(ANN):
            pass
        with quotas.stream(BEN), quotas.stream(ANN):
            pass


def test_a_host_has_no_more_reports_under_way_than_are_committed_soon(quotas: Quotas) -> None:
    """Each is in memory until it is answered; other hosts, and those on the kernel's own socket, are not held back."""
    one, other = (Principal(kind=PrincipalKind.HOST, name=name) for name in ("one", "other"))
    with quotas.report(one, 40 << 20):
        with pytest.raises(QuotaExceeded, match="bytes of reports without an answer"), quotas.report(one, 40 << 20):
            pass
        with quotas.report(one, 20 << 20), quotas.report(other, 40 << 20), quotas.report(OWNER, 400 << 20):
            pass
    with quotas.report(one, 64 << 20):
        pass


def test_the_owner_hosts_and_who_is_refused_anyway_have_no_account(quotas: Quotas) -> None:
    """Their calls are not counted, and the quotas keep nothing of them."""
    for principal in (OWNER, ANYONE, Principal(kind=PrincipalKind.HOST, name="teama")):
        for _ in range(100):
            quotas.call(principal)
            quotas.request(principal, 10**9)
            quotas.triggers(principal, 10**6)
        with quotas.stream(principal), quotas.stream(principal), quotas.stream(principal):
            pass
    assert not quotas._buckets


def test_a_host_cannot_storm_and_is_told_when_to_come_again(quotas: Quotas, clock: HandClock) -> None:
    """Attaches, manifests, renewals and reports of one host name have a rate each, whatever its instances are."""
    storm, other = (Principal(kind=PrincipalKind.HOST, name=name) for name in ("storm", "other"))
    for method, burst, rate in (
        ("Attach", 200, 10.0),
        ("IntroduceManifest", 120, 2.0),
        ("RenewCertificate", 100, 1 / 600),
        ("StreamReports", 10_000, 1e3),
        ("Heartbeat", 10_000, 500.0),
        ("LoadState", 200, 1 / 5),
    ):
        for _ in range(burst):
            quotas.call(storm, method)
        with pytest.raises(QuotaExceeded, match=f"host:storm calls {method} more often") as caught:
            quotas.call(storm, method)
        assert caught.value.retry_seconds == pytest.approx(1 / rate)
        quotas.call(other, method)
        clock.now += 1.01 / rate
        quotas.call(storm, method)


def test_a_call_of_a_host_costs_by_what_is_in_it(quotas: Quotas) -> None:
    """Few large ones are worth many small ones."""
    storm = Principal(kind=PrincipalKind.HOST, name="storm")
    for _ in range(10):
        quotas.call(storm, "Attach")
        quotas.call(storm, "Attach", 19.0)
    with pytest.raises(QuotaExceeded):
        quotas.call(storm, "Attach")


def test_a_launcher_makes_a_join_string_a_second_in_the_long_run(clock: HandClock) -> None:
    """Each is a record for days. A thousand at once is all demand of a host; the owner has no limit."""
    quotas = Quotas(limits=QuotaSection(calls_per_second=5000), clock=clock)
    for _ in range(1000):
        quotas.call(BEN, "InviteInstance")
        quotas.call(OWNER, "InviteInstance")
    assert wait_of(quotas.call, BEN, "InviteInstance") == pytest.approx(1.0)
    quotas.call(BEN, "GetKernel")
    quotas.call(OWNER, "InviteInstance")
    clock.now += 1.01
    quotas.call(BEN, "InviteInstance")


def test_what_a_host_says_on_its_sessions_has_a_rate_in_bytes(quotas: Quotas, clock: HandClock) -> None:
    """Its content does not matter: it costs memory and time before anybody can look at it."""
    storm, other = (Principal(kind=PrincipalKind.HOST, name=name) for name in ("storm", "other"))
    for _ in range(16):
        quotas.message(storm, 1024 * 1024)
    with pytest.raises(QuotaExceeded, match="host:storm sends more than 2,097,152 bytes a second") as caught:
        quotas.message(storm, 1024 * 1024)
    assert caught.value.retry_seconds == pytest.approx(0.5)
    quotas.message(other, 1024 * 1024)
    clock.now += 0.51
    quotas.message(storm, 1024 * 1024)
    for _ in range(100):
        quotas.message(OWNER, 1024 * 1024)
