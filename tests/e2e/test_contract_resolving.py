"""References that a step may have, and the errors for others."""

from __future__ import annotations

import pytest
from contract_stage import Stage

pytestmark = pytest.mark.e2e

ON_LOOP, IN_THREAD = {"loop": True, "main": True}, {"loop": False, "main": False}
OWN_LOOP = {"loop": True, "main": False}
CALLABLE = {
    "async function": ("kinds.zoo:plain_async", {"n": 1}, {"n": 1, **ON_LOOP}),
    "sync function": ("kinds.zoo:plain_sync", {"n": 2}, {"n": 2, **IN_THREAD}),
    "async partial": ("kinds.zoo:partial_async", None, {"n": 5, **ON_LOOP}),
    "partial of partial": ("kinds.zoo:partial_sync", None, {"n": 6, **IN_THREAD}),
    "overridden partial": ("kinds.zoo:partial_async", {"n": "9"}, {"n": 9, **ON_LOOP}),
    "plain wrapper of a coroutine": ("kinds.zoo:wrapped_async", {"n": "3"}, {"n": 3, **OWN_LOOP}),
    "async wrapper": ("kinds.zoo:wrapped_both", {"n": "3"}, {"n": 3, **ON_LOOP}),
    "wrapped twice": ("kinds.zoo:wrapped_twice", {"n": "4"}, {"n": 4, **IN_THREAD}),
    "static method": ("kinds.zoo:Tools.static", {"n": 1}, {"n": 1}),
    "class method": ("kinds.zoo:Tools.klass", {"n": "2"}, {"n": 6}),
    "nested class": ("kinds.zoo:Tools.Inner.deep", {"n": 1}, {"n": 1}),
    "bound method": ("kinds.zoo:tools.method", {"n": "2"}, {"n": 6}),
    "sync object": ("kinds.zoo:sync_object", {"n": "1"}, {"n": 1, **IN_THREAD}),
    "async object": ("kinds.zoo:async_object", {"n": "1"}, {"n": 1, **ON_LOOP}),
    "partial of an async __call__": ("kinds.zoo:partial_of_async_object", None, {"n": 7, **ON_LOOP}),
    "partial of an async object": ("kinds.zoo:partial_of_object", None, {"n": 8, **ON_LOOP}),
    "lambda": ("kinds.zoo:shout", {"n": 1}, {"n": 1}),
    "asyncio.run inside": ("kinds.zoo:nested_loop", {"n": "2"}, {"n": 2, **OWN_LOOP}),
    "a loop of its own": ("kinds.zoo:own_loop", None, {"n": 4, **OWN_LOOP}),
    "nested module": ("kinds.deep.er.still:work", None, {"from": "kinds.deep.er.still"}),
    "single file": ("single:work", None, {"from": "single"}),
    "installed module": ("gc:collect", {"generation": 0}, {}),
    "among hostile neighbours": ("kinds.hostile_module:fine", {"n": "2"}, {}),
    "module that replaces itself": ("kinds.replaced:made", {"n": 2}, {}),
    "module __getattr__": ("kinds.hostile_module:lazy", {"n": "2"}, {}),
}


def test_everything_that_can_be_called(stage: Stage) -> None:
    """Each kind of callable runs, coroutines on the worker's loop and plain functions in a thread."""
    ran = stage.run_all({name: call[:2] for name, call in CALLABLE.items()})
    told = {name: (each.state, dict(each.it.extras), each.error) for name, each in ran.items()}
    assert told == {name: ("SUCCEEDED", expected, "") for name, (_, _, expected) in CALLABLE.items()}
    assert ran["installed module"].it.rows_affected is not None


REFUSED = {
    "kinds.zoo:generator": ("callable_unsupported", "is a generator"),
    "kinds.zoo:async_generator": ("callable_unsupported", "is an async generator"),
    "kinds.zoo:wrapped_generator": ("callable_unsupported", "is a generator"),
    "kinds.zoo:Sync": ("callable_unsupported", "is a class"),
    "kinds.zoo:Tricky": ("callable_unsupported", "is a class"),
    "kinds.zoo:not_callable": ("callable_unsupported", "of type int, which is not callable"),
    "kinds.zoo:Tools.method": ("callable_unsupported", "needs an instance of Tools"),
    "kinds.zoo:positional_only": ("callable_unsupported", "positional-only parameter 'n'"),
    "kinds.zoo:plain_asink": (
        "callable_not_found",
        "kinds.zoo has no function 'plain_asink'; did you mean 'plain_async'?",
    ),
    "kinds.zoo:Tools.statik": (
        "callable_not_found",
        "kinds.zoo:Tools has no attribute 'statik'; did you mean 'static'?",
    ),
    "kinds.zo:plain_async": ("callable_not_found", "there is no module 'kinds.zo' (did you mean 'kinds.zoo'?)"),
    "kinds.zoo.more:work": ("callable_not_found", "'kinds.zoo' is a module, not a package"),
    "failures.on_import_raises:work": ("import_failed", "RuntimeError: no licence today"),
    "failures.on_import_syntax:work": ("import_failed", "SyntaxError: "),
    "failures.on_import_exits:work": ("import_failed", "it called sys.exit('go away')"),
    "failures.on_import_interrupts:work": ("import_failed", "KeyboardInterrupt"),
    "failures.on_import_needs_missing:work": (
        "import_failed",
        "imports 'no_such_library_here', which is not installed",
    ),
    "kinds.hostile_module:proxy": ("callable_unsupported", "kinds.hostile_module:proxy"),
    "kinds.hostile_module:unfriendly": ("callable_unsupported", "kinds.hostile_module:unfriendly"),
    "kinds.hostile_module:looped": ("callable_unsupported", "kinds.hostile_module:looped"),
    "kinds.hostile_module:bad_signature": ("callable_unsupported", "no signature that can be read"),
    "kinds.hostile_module:unsigned": ("callable_unsupported", "cannot be inspected: RuntimeError: no signature today"),
    "kinds.replaced:missing": ("callable_not_found", "RuntimeError: no missing today"),
    "kinds.hostile_module:lazily_broken": ("callable_not_found", "ValueError: the attribute cannot be made"),
}


def test_everything_that_cannot(stage: Stage) -> None:
    """An object that cannot be a step FAILs before a call, with the wrong half of the reference and no traceback."""
    ran = stage.run_all({reference: (reference, None) for reference in REFUSED})
    for reference, (code, words) in REFUSED.items():
        each = ran[reference]
        assert (each.state, each.reason) == ("FAILED", code), (reference, each.error)
        assert words in each.error
        assert all(part in each.error for part in reference.replace(":", ".").split(".")), each.error
        assert "Traceback" not in each.log + each.error
        assert each.it.started_at is None, "the callable was never called"


def test_a_generator_that_is_handed_back(stage: Stage) -> None:
    """A plain function that returns a generator fails with the type it returned."""
    ran = stage.run("kinds.zoo:hands_back_a_generator")
    assert (ran.state, ran.reason) == ("FAILED", "return_invalid")
    assert "of type generator" in ran.error


def test_a_loop_in_a_loop(stage: Stage) -> None:
    """``asyncio.run`` in a coroutine fails as it does in Python, with the author's line in the log."""
    ran = stage.run("kinds.zoo:loop_in_a_loop")
    assert ran.error == "RuntimeError: asyncio.run() cannot be called from a running event loop"
    assert "asyncio.run(coroutine)" in ran.log


FLAWED = {
    "flawed-module": ("steps[0].callable", "kinds.zo"),
    "flawed-attribute": ("steps[0].callable", "plain_async"),
    "flawed-import": ("steps[0].callable", "no licence today"),
    "flawed-kind": ("steps[0].callable", "is a generator"),
    "flawed-key": ("steps[0].op_kwargs.max_age_day", "max_age_days"),
    "flawed-missing": ("steps[0].op_kwargs", "needs 'apps_id'"),
    "flawed-positional": ("steps[0].callable", "positional-only"),
    "flawed-value": ("steps[0].op_kwargs.apps_id", "as int"),
}


@pytest.mark.parametrize("job_id", FLAWED)
def test_flaws_are_known_before_the_first_run(stage: Stage, job_id: str) -> None:
    """The kernel disables a job whose callable or op_kwargs cannot work, and says where and why."""
    job = stage.client.get_job(job_id)
    assert not job.valid
    path, words = FLAWED[job_id]
    assert any(each.path.endswith(path) and words in f"{each.message} {each.fix}" for each in job.problems), (
        job.problems
    )


def test_the_manifest_offers_public_functions(stage: Stage) -> None:
    """Jobs of callables that can work are valid, whatever their neighbours do."""
    valid = {each.job_id for each in stage.client.list_jobs().jobs if each.valid}
    assert {"chain", "kinds-zoo-plain_async", "kinds-hostile_module-fine"} <= valid
