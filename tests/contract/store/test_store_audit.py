"""The audit: appended with the change it tells of, numbered and chained, kept over restarts, and checked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from store_histories import T0, Ids, queue
from store_places import Place

from nomaflow_api.audit_chain import CHAINED_FIELDS, row_hash
from nomaflow_kernel.history.access_records import AuditFilter, AuditRecord, AuditVerdict
from nomaflow_kernel.history.transitions import AppendAudit
from nomaflow_kernel.store.errors import StaleEpoch
from nomaflow_kernel.store.session import WriteSession
from nomaflow_kernel.store.sql_store import Store, open_store

ids = Ids()
ALL = AuditFilter()


def row(target: str = "job:a", **changes: Any) -> AuditRecord:
    fields: dict[str, Any] = {"principal": "owner", "address": "unix:", "action": "TriggerRun", "outcome": "ok"}
    return AuditRecord(**{"at_us": T0, **fields, "target": target, **changes})


async def rows(store: Store, **filter: Any) -> list[AuditRecord]:
    return list(await store.audit_rows(0, filter=AuditFilter(**filter), limit=1000))


async def append(store: Store, count: int) -> None:
    await store.append_audit([row(f"job:{number}", at_us=T0 + number) for number in range(1, count + 1)])


async def test_rows_are_numbered_and_chained_in_the_order_given(store: Store) -> None:
    """Rows of many calls at once have numbers without a gap, in the order of the calls, and hashes in a chain."""
    calls = [store.append_audit([row(f"job:{n}a"), row(f"job:{n}b")]) for n in range(50)]
    await asyncio.gather(*calls)
    kept = await rows(store)
    assert [each.seq for each in kept] == list(range(1, 101))
    assert [each.target for each in kept] == [f"job:{n}{part}" for n in range(50) for part in "ab"]
    before = ""
    for each in kept:
        assert each.hash == row_hash(before, [getattr(each, name) for name in CHAINED_FIELDS])
        before = each.hash
    ends = await store.audit_ends()
    assert (ends.seq, ends.hash, ends.pruned_seq) == (100, before, 0)
    assert await store.verify_audit() == AuditVerdict(rows=100, first_seq=1, last_seq=100, last_hash=before)


async def test_a_row_is_stored_with_its_change_or_not_at_all(store: Store) -> None:
    """A batch that fails leaves no row, and those beside it keep theirs, chained without a gap."""
    run_ids = [ids.new() for _ in range(5)]
    calls = [
        store.apply(
            [
                queue(run_id, definition_digest=f"d-{run_id}", rows_affected=2**80 if number == 2 else None),
                AppendAudit(record=row(correlation=run_id)),
            ],
            at_us=T0,
        )
        for number, run_id in enumerate(run_ids)
    ]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(each, BaseException) for each in results] == [False, False, True, False, False]
    assert [each.correlation for each in await rows(store)] == run_ids[:2] + run_ids[3:]
    assert (await store.verify_audit()).bad_seq == 0


async def test_an_operation_that_fails_takes_its_rows_back(store: Store) -> None:
    """An operation that fails after it has appended a row leaves none; those beside it keep theirs."""

    def fails(session: WriteSession) -> None:
        session.audit.append(row("job:bad"))
        raise ValueError("after the row")

    calls = [store.append_audit([row("job:a")]), store._write(fails), store.append_audit([row("job:b")])]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(each, ValueError) for each in results] == [False, True, False]
    assert [each.target for each in await rows(store)] == ["job:a", "job:b"]
    assert (await store.verify_audit()).bad_seq == 0


async def test_the_row_of_a_repeated_request_names_the_run_of_the_first(store: Store) -> None:
    """A trigger that turns out to be a repeat when it is stored is in the audit with the run that it got."""
    first, second = ids.new(), ids.new()
    await store.apply([queue(first, request_id="r1")], at_us=T0)
    result = await store.apply([queue(second, request_id="r1"), AppendAudit(record=row(correlation=second))], at_us=T0)
    assert result.duplicates == {second: first}
    assert [each.correlation for each in await rows(store)] == [first]


async def test_the_chain_goes_on_over_restarts_and_other_leaders(place: Place) -> None:
    """Each kernel builds on the last row of the one before; one that lost the lead appends nothing."""
    for number in range(3):
        store = open_store(place.url)
        await store.open()
        await append(store, number + 1)
        await store.close()
    old = open_store(place.url)
    await old.open()
    await place.sql("UPDATE kernel SET epoch = epoch + 1 RETURNING epoch")
    with pytest.raises(StaleEpoch):
        await old.append_audit([row()])
    assert (await old.verify_audit()).rows == 6
    assert (await old.verify_audit()).bad_seq == 0
    await old.close()


async def test_any_text_is_kept_and_verified(store: Store) -> None:
    """Texts that no database keeps as they are, such as NUL and half of a surrogate pair, fit their own hash."""
    strange = ["\x00", "\udc80", "ü☃", "\u2028", "\x1b[31m", "'; DROP TABLE audit; --"]
    await store.append_audit([row(text, note=text, principal=text, address=text, correlation=text) for text in strange])
    assert [each.target for each in await rows(store)] == ["\u2400", "\\udc80", *strange[2:]]
    assert (await store.verify_audit()).bad_seq == 0


async def test_filters_and_tail(store: Store) -> None:
    """Rows are found by principal, action, time, and whether they are refusals."""
    await append(store, 3)
    await store.append_audit(
        [row("job:x", principal="anna", action="CancelRun", outcome="PERMISSION_DENIED", at_us=T0 + 9)]
    )
    assert [each.seq for each in await rows(store, principal="anna")] == [4]
    assert [each.seq for each in await rows(store, action="CancelRun")] == [4]
    assert [each.seq for each in await rows(store, refused=True)] == [4]
    assert [each.seq for each in await rows(store, since_us=T0 + 3)] == [3, 4]
    assert [each.seq for each in await store.audit_tail(filter=ALL, limit=2)] == [3, 4]
    assert [each.seq for each in await store.audit_tail(filter=AuditFilter(principal="owner"), limit=1)] == [3]
    assert [each.seq for each in await store.audit_rows(1, filter=ALL, limit=2)] == [2, 3]


async def test_retention_keeps_the_rest_verifiable(store: Store) -> None:
    """Old rows go from the old end only, a page at a time; the rest verifies, even when all are gone and more come."""
    await append(store, 10)
    assert await store.prune_audit(before_us=T0 + 7, limit=4) == 4
    assert await store.prune_audit(before_us=T0 + 7, limit=4) == 2
    assert await store.prune_audit(before_us=T0 + 7, limit=4) == 0
    verdict = await store.verify_audit()
    assert (verdict.rows, verdict.first_seq, verdict.last_seq, verdict.bad_seq) == (4, 7, 10, 0)
    assert await store.prune_audit(before_us=T0 + 99, limit=100) == 4
    assert (await store.verify_audit()).bad_seq == 0
    await append(store, 1)
    verdict = await store.verify_audit()
    assert (verdict.rows, verdict.first_seq, verdict.last_seq, verdict.bad_seq) == (1, 11, 11, 0)


OTHERS = ", ".join((*CHAINED_FIELDS[1:], "hash"))
TAMPERED = {
    "a changed field": ("UPDATE audit SET target = 'job:z' WHERE seq = 4", 4),
    "a changed count": ("UPDATE audit SET count = 7 WHERE seq = 4", 4),
    "a changed hash": ("UPDATE audit SET hash = 'f00' WHERE seq = 4", 4),
    "a removed row": ("DELETE FROM audit WHERE seq = 4", 4),
    "a removed first row": ("DELETE FROM audit WHERE seq = 1", 1),
    "removed newest rows": ("DELETE FROM audit WHERE seq > 3", 4),
    "an emptied table": ("DELETE FROM audit", 1),
    "an inserted row": (f"INSERT INTO audit SELECT 11, {OTHERS} FROM audit WHERE seq = 10", 11),
    "an inserted oldest row": (f"INSERT INTO audit SELECT 0, {OTHERS} FROM audit WHERE seq = 10", 0),
    "another newest row in the kernel's": ("UPDATE kernel SET audit_hash = 'f00'", 10),
}


@pytest.mark.parametrize("what", TAMPERED)
async def test_verify_names_the_first_bad_row(store: Store, place: Place, what: str) -> None:
    """Whoever changes, removes, adds or cuts rows in the database is found, at the first row that does not fit."""
    statement, bad_seq = TAMPERED[what]
    await append(store, 10)
    await place.sql(f"{statement} RETURNING 1")
    verdict = await store.verify_audit()
    assert verdict.bad_seq == bad_seq
    assert verdict.problem


async def test_verify_finds_rows_in_another_order(store: Store, place: Place) -> None:
    """Two rows that change places are found at the first of them."""
    await append(store, 10)
    for old, new in ((4, 99), (6, 4), (99, 6)):
        await place.sql(f"UPDATE audit SET seq = {new} WHERE seq = {old} RETURNING 1")
    assert (await store.verify_audit()).bad_seq == 4


async def test_a_row_rewritten_with_its_hash_is_found_at_the_next(store: Store, place: Place) -> None:
    """Whoever computes the hash of a changed row anew must rewrite every later row, and the kernel's."""
    await append(store, 10)
    kept = await rows(store)
    facts = [getattr(kept[3], name) for name in CHAINED_FIELDS]
    facts[CHAINED_FIELDS.index("principal")] = "somebody"
    forged = row_hash(kept[2].hash, facts)
    await place.sql(f"UPDATE audit SET principal = 'somebody', hash = '{forged}' WHERE seq = 4 RETURNING 1")
    assert (await store.verify_audit()).bad_seq == 5


async def test_verify_beside_writing_and_retention(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check of many pages raises no false alarm while rows are appended, and old ones removed."""
    monkeypatch.setattr("nomaflow_kernel.store.sql_store._ROWS_VERIFIED_TOGETHER", 7)
    await append(store, 100)

    async def meanwhile() -> None:
        for number in range(20):
            await store.append_audit([row(at_us=T0 + 200)])
            await store.prune_audit(before_us=T0 + 5 * number, limit=100)

    verdicts = await asyncio.gather(meanwhile(), *(store.verify_audit() for _ in range(10)))
    assert [each.problem for each in verdicts if isinstance(each, AuditVerdict)] == [""] * 10


async def test_a_batch_without_rows_leaves_the_audit_alone(store: Store) -> None:
    """Most commits are no calls of anybody: they neither read nor write more than before."""
    await append(store, 2)
    before = await store.audit_ends()
    await store.apply([queue(ids.new())], at_us=T0)
    await store.ping()
    assert await store.audit_ends() == before
