"""Secret params: sealed in all that the kernel keeps or shows, opened in the order for the host only."""

from __future__ import annotations

import asyncio
import json
import re
import stat
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from rig import Rig, failed, job, opened, step

from nomaflow_kernel.access.secret_params import KEY_FILE, SecretParams, hidden
from nomaflow_kernel.domain.errors import BadRequest, KernelError, RequestIdReused
from nomaflow_kernel.engine.orders import unreadable_secrets
from nomaflow_kernel.history.records import RunRequest
from nomaflow_kernel.history.states import AttemptState, RunState
from nomaflow_kernel.rpc.messages import run_detail_message
from nomaflow_project.jobs.definitions import Overlap
from nomaflow_project.jobs.retry_policy import RetryPolicy

VALUE = "hunter2-hunter2"
GIVEN = {"api_key": VALUE, "plain": "seen", "many": [1, {"$date": "2026-01-31"}]}
SHOWN = {"api_key": "***", "plain": "seen", "many": "***"}


def _request() -> RunRequest:
    return RunRequest(params=GIVEN)


def _add(rig: Rig, *steps: Any, **fields: Any) -> None:
    rig.jobs.add(job("a", *steps, secret_params=("api_key", "many"), **fields))


def _in_files(rig: Rig, value: str = VALUE) -> list[str]:
    """Return the files of the kernel that have a value."""
    return [str(each) for each in rig.path.parent.rglob("*") if each.is_file() and value.encode() in each.read_bytes()]


async def test_only_the_order_has_a_secret_param(rig: Rig) -> None:
    """The store, the run as shown, and events have it sealed; the order has the value, and says that it is secret."""
    _add(rig)
    host = await rig.host()
    run_id = (await rig.trigger("a", params=GIVEN, request_id="k", request_hash="ab")).run_id
    order = opened(await host.dispatch())
    assert json.loads(order.params_json) == GIVEN
    assert json.loads(order.kwargs_json) == GIVEN
    assert order.secret_keys == ("api_key", "many")
    detail = await rig.detail(run_id)
    assert json.loads(run_detail_message(detail).params_json) == SHOWN
    assert VALUE not in str(detail)
    assert VALUE not in str(await rig.events(run_id))
    assert _in_files(rig) == []
    key = rig.path.parent / KEY_FILE
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("api_kee", "job 'a' has no secret param 'api_kee'; did you mean 'api_key'?"),
        ("plain", "job 'a' has no secret param 'plain'; it has 'api_key', 'many'; list it in the job's secret_params"),
    ],
)
async def test_what_must_be_secret_and_is_not_is_refused(rig: Rig, key: str, why: str) -> None:
    """A value that its caller holds for a secret is not stored as it is if the job does not list its name."""
    _add(rig)
    assert (await rig.trigger("a", params=GIVEN, secret_keys=("api_key",))).state is RunState.QUEUED
    with pytest.raises(BadRequest, match=re.escape(why)):
        await rig.trigger("a", params={key: VALUE}, secret_keys=(key,))
    assert _in_files(rig) == []


async def test_a_job_without_secret_params_makes_no_key(rig: Rig) -> None:
    """A project without secret parameters pays nothing for them: no key is made."""
    rig.jobs.add(job("a"))
    host = await rig.host()
    await rig.trigger("a", params=GIVEN)
    assert opened(await host.dispatch()).secret_keys == ()
    assert not (rig.path.parent / KEY_FILE).exists()


async def test_retries_replays_and_restarts_keep_it(rig: Rig) -> None:
    """Each attempt has the value; a replay takes it from the run before, or a new one from its request."""
    _add(rig, retry=RetryPolicy(attempts=2, base_seconds=0))
    host = await rig.host()
    first = (await rig.trigger("a", params=GIVEN)).run_id
    await host.finish((await host.dispatch()).attempt_key, failed())
    order = await host.dispatch(2)
    assert json.loads(opened(order).params_json) == GIVEN
    await host.finish(order.attempt_key)
    await rig.restart()
    host = await rig.host()
    again = await rig.replay(first)
    order = await host.dispatch()
    assert json.loads(opened(order).params_json) == GIVEN
    await host.finish(order.attempt_key)
    await rig.replay(again, params={"api_key": "another-one"})
    order = await host.dispatch(2)
    assert json.loads(opened(order).params_json) == {**GIVEN, "api_key": "another-one"}
    assert _in_files(rig) == _in_files(rig, "another-one") == []


async def test_anothers_secret_goes_along_only_with_a_replay_that_changes_nothing(rig: Rig) -> None:
    """A caller who may replay others' runs cannot send their secrets elsewhere, not even by a replay of his own."""
    _add(rig)
    host = await rig.host()
    alice, bob = {"author": "alice", "by": "alice"}, {"author": "bob", "by": "bob (for alice)"}
    first = (await rig.trigger("a", params=GIVEN, **alice)).run_id
    await host.finish((await host.dispatch()).attempt_key)
    same = await rig.replay(first, op_kwargs={"one": {}}, **bob)
    order = await host.dispatch(2)
    assert json.loads(opened(order).params_json) == GIVEN
    await host.finish(order.attempt_key)
    changes: list[dict[str, Any]] = [{"params": {"plain": "elsewhere"}}, {"op_kwargs": {"one": {"plain": "elsewhere"}}}]
    for run_id in (first, same):
        for change in changes:
            with pytest.raises(BadRequest, match=f"run {run_id} has secret params that somebody else gave"):
                await rig.replay(run_id, **change, **bob)
    anew = {"params": {"plain": "elsewhere", "api_key": "bobs-own", "many": []}}
    anew_run = await rig.replay(same, **anew, **bob)
    order = await host.dispatch(3)
    assert json.loads(opened(order).params_json) == anew["params"]
    await host.finish(order.attempt_key)
    for count, (run_id, who) in enumerate(((same, alice), (anew_run, bob), (first, {"by": "owner"})), 4):
        await rig.replay(run_id, **changes[0], **who)
        await host.finish((await host.dispatch(count)).attempt_key)


async def test_a_called_job_gets_it_sealed_too(rig: Rig) -> None:
    """A child that does not name it inherits it sealed: the history of neither shows it."""
    rig.jobs.add(
        job("a", step("call", type="call_job", target_job_id="b", callable=""), secret_params=("api_key",)), job("b")
    )
    host = await rig.host()
    await rig.trigger("a", params={"api_key": VALUE})
    order = opened(await host.dispatch())
    assert json.loads(order.params_json) == {"api_key": VALUE}
    assert order.secret_keys == ("api_key",)
    assert json.loads(run_detail_message(await rig.detail(order.run_id)).params_json) == {"api_key": "***"}
    assert _in_files(rig) == []


async def test_values_for_one_step_are_sealed_as_well(rig: Rig) -> None:
    """op_kwargs of a run, for a key that the job calls secret."""
    _add(rig, step("one"))
    host = await rig.host()
    await rig.trigger("a", op_kwargs={"one": {"api_key": VALUE}})
    order = opened(await host.dispatch())
    assert json.loads(order.kwargs_json) == {"api_key": VALUE}
    assert order.secret_keys == ("api_key",)
    assert _in_files(rig) == []


@pytest.mark.parametrize("other", [None, "other", "nonsense"])
async def test_a_history_without_its_key_fails_the_run_by_name(rig: Rig, other: str | None) -> None:
    """As after a restore on another machine: the run says what is missing, and everything else works."""
    _add(rig)
    run_id = (await rig.trigger("a", params=GIVEN)).run_id
    key = rig.path.parent / KEY_FILE
    key.unlink()
    if other == "other":
        SecretParams(rig.path.parent).sealed(_request(), ["api_key"])
    elif other is not None:
        key.write_text("nonsense")
    rig.jobs.add(job("b"))
    await rig.restart()
    host = await rig.host()
    async with asyncio.timeout(60):
        while await rig.state(run_id) is not RunState.FAILED:
            await rig.advance(1)
    detail = await rig.detail(run_id)
    (attempt,) = detail.attempts
    assert (attempt.state, attempt.reason and attempt.reason.code) == (AttemptState.FAILED, "secret_params_unreadable")
    assert f"the secret param 'api_key' cannot be decrypted with the key {str(key)!r}" in attempt.error
    assert json.loads(run_detail_message(detail).params_json) == SHOWN
    await rig.trigger("b")
    assert (await host.dispatch()).run_id != run_id


async def test_a_look_at_an_attempt_that_waits_merges_none_of_its_values(rig: Rig) -> None:
    """Each change on its host looks at all that wait for a slot there; a step may have thousands of values."""
    _add(rig)
    host = await rig.host()
    run_id = (await rig.trigger("a", op_kwargs={"one": {"api_key": VALUE}})).run_id
    await host.dispatch()
    state = rig.engine._state
    run = state.active[run_id]
    unmerged = structs.replace(run.attempt.step, layers=())
    assert unreadable_secrets(state, run, unmerged) is None
    state.secrets = SecretParams()  # has no key
    why = unreadable_secrets(state, run, unmerged)
    assert (why and why.code) == "secret_params_unreadable"


async def test_a_missing_key_is_not_tried_a_thousand_times(rig: Rig) -> None:
    """No retry brings the key back: a policy without a pause would try within one turn until the kernel ends."""
    again = RetryPolicy(attempts=1000, base_seconds=0, jitter=0)
    rig.jobs.add(job("a", step("one", retry=again), secret_params=("api_key",)))
    run_id = (await rig.trigger("a", params=GIVEN)).run_id
    (rig.path.parent / KEY_FILE).unlink()
    await rig.restart()
    await rig.host()
    async with asyncio.timeout(60):
        while await rig.state(run_id) is not RunState.FAILED:
            await rig.advance(1)
    assert len((await rig.detail(run_id)).attempts) == 1


async def test_a_key_that_cannot_be_made_refuses_the_trigger(tmp_path: Path) -> None:
    """A missing folder or a damaged key refuses the values, and the damaged file stays."""
    secrets = SecretParams(tmp_path / "none")
    with pytest.raises(KernelError, match="cannot be used: no such file"):
        secrets.sealed(_request(), ["api_key"])
    (tmp_path / KEY_FILE).write_text("short")
    with pytest.raises(KernelError, match="cannot be used"):
        SecretParams(tmp_path).sealed(_request(), ["api_key"])
    assert (tmp_path / KEY_FILE).read_text() == "short"


async def test_a_repeated_request_is_recognised_without_a_guessable_hash(rig: Rig) -> None:
    """The kept hash depends on the key: nobody can try out values with the history alone."""
    _add(rig)
    first = await rig.trigger("a", params=GIVEN, request_id="k", request_hash="ab")
    for _ in range(2):
        again = await rig.trigger("a", params=GIVEN, request_id="k", request_hash="ab")
        assert (again.run_id, again.deduplicated) == (first.run_id, True)
        with pytest.raises(RequestIdReused):
            await rig.trigger("a", params=GIVEN, request_id="k", request_hash="cd")
        await rig.restart()
    assert (await rig.detail(first.run_id)).run.request_hash not in ("", "ab")


def test_what_is_hidden_is_hidden_by_name_and_by_seal(tmp_path: Path) -> None:
    """A value is hidden by its parameter's name or by its seal, whatever definition it comes from."""
    sealed = SecretParams(tmp_path).sealed(RunRequest(params={"a": "x"}), ["a"]).params
    assert hidden(json.dumps(sealed), ()) == '{"a":"***"}'
    assert hidden('{"a":"${A}"}', ("a",)) == '{"a":"***"}'
    assert hidden('{"b":1}', ("a",)) == '{"b":1}'


def test_sealing_twice_changes_nothing(tmp_path: Path) -> None:
    """Each sealing of a value gives another text, so equal secrets cannot be recognised."""
    secrets = SecretParams(tmp_path)
    once = secrets.sealed(_request(), ["api_key"])
    assert secrets.sealed(once, ["api_key"]) == once
    assert secrets.sealed(_request(), ["api_key"]).params["api_key"] != once.params["api_key"]
    assert json.loads(secrets.opened(json.dumps(dict(once.params)))) == GIVEN


async def test_a_request_that_is_refused_for_lack_of_a_key_cancels_nothing(rig: Rig) -> None:
    """Its id could not be remembered, so it makes no run, and the one that it would have replaced goes on."""
    rig.jobs.add(job("a", secret_params=("api_key",), overlap=Overlap.CANCEL_RUNNING))
    await rig.host()
    running = (await rig.trigger("a")).run_id
    (rig.path.parent / KEY_FILE).mkdir()
    with pytest.raises(KernelError, match="secret params cannot be encrypted"):
        await rig.trigger("a", request_id="again", request_hash="hash")
    await rig.settle()
    assert (await rig.detail(running)).run.cancel is None
