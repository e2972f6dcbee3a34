"""Values that a callable may return, and their records."""

from __future__ import annotations

from typing import Any

import pytest
from contract_stage import Ran, Stage

pytestmark = pytest.mark.e2e

VALUE = "returns.shapes:value"
KEPT: dict[str, tuple[int | None, Any]] = {
    "none": (None, {}),
    "int": (7, {}),
    "zero": (0, {}),
    "negative": (-3, {}),
    "int_subclass": (3, {}),
    "empty": (None, {}),
    "dict": (2, {"tenant": 10, "cutoff": "2026-01-31T00:00:00"}),
    "rows_none": (None, {"a": 1}),
    "ordered": (None, {"b": 1, "a": [1, [2, 3]]}),
    "subclasses": (None, {"k": "v", "n": 3}),
    "result": (4, {"a": [1, {"b": None}]}),
    "result_verbatim": (None, {"rows_affected": 9}),
    "result_without_extras": (5, {}),
    "big_int": (None, {"n": 2**200, "exact": 0.1, "neg": -(10**4200)}),
    "unicode": (None, {"ключ": "знач\x00\ud800 😀", "": ""}),
    "date_text": (None, {"day": "2026-01-31"}),
    "dollar": (None, {"$date": "2026-01-31", "$x": {"$literal": 1}}),
}
REFUSED = {
    "true": "returned the bool True",
    "text": "a value of type str",
    "float": "a value of type float",
    "list": "a value of type list",
    "tuple": "a value of type tuple",
    "class": "a value of type type",
    "bool_rows": "rows_affected is bool",
    "float_rows": "rows_affected is float",
    "text_rows": "rows_affected is str",
    "huge_rows": "rows_affected is beyond 64 bits",
    "huge_count": "rows_affected is beyond 64 bits",
    "int_key": "extras.a: the key 1 is int",
    "none_key": "extras: the key None is NoneType",
    "nan": "extras.a[1]: nan has no JSON form",
    "infinity": "extras.a.b: inf has no JSON form",
    "date": "extras.rows[0].when: a value of type datetime.date",
    "decimal": "extras.price: a value of type decimal.Decimal",
    "uuid": "extras.id: a value of type uuid.UUID",
    "bytes": "extras.raw: a value of type bytes",
    "set": "extras['odd key!']: a value of type set",
    "object": "extras.thing: a value of type returns.shapes.Unfriendly",
    "object_alone": "a value of type returns.shapes.Unfriendly",
    "itself": "nested more than 64 levels deep, or containing itself",
    "deep": "nested more than 64 levels deep",
    "colliding": "the key 'a' occurs twice",
    "digits": "extras.n: the integer has more than 4300 digits",
    "result_bad_extras": "extras is list",
    "result_bad_rows": "rows_affected is str",
    "result_date": "extras.day: a value of type datetime.date",
}


@pytest.fixture(scope="module")
def returned(stage: Stage) -> dict[str, Ran]:
    """Run a step for every shape at once."""
    return stage.run_all({name: (VALUE, {"name": name}) for name in (*KEPT, *REFUSED, "too_large", "warned")})


def test_accepted(returned: dict[str, Ran]) -> None:
    """Each accepted shape is kept exactly, count and extras apart, and the count is the run's."""
    told = {name: (each.it.rows_affected, dict(each.it.extras), each.error) for name, each in returned.items()}
    assert {name: told[name] for name in KEPT} == {name: (*kept, "") for name, kept in KEPT.items()}
    assert [returned[name].run.rows_affected for name in ("int", "dict")] == [7, 2]
    assert list(returned["ordered"].it.extras) == ["b", "a"]


def test_refused(returned: dict[str, Ran]) -> None:
    """Each refused shape FAILs its step by the path of the offending value, keeps nothing and needs no traceback."""
    for name, words in REFUSED.items():
        each = returned[name]
        assert (each.state, each.reason) == ("FAILED", "return_invalid"), (name, each.error)
        assert words in each.error, name
        assert dict(each.it.extras) == {}
        assert each.it.rows_affected is None
        assert len(each.error) < 500


def test_sizes(returned: dict[str, Ran]) -> None:
    """Extras over the limit fail with size, limit and advice; large ones are kept with a warning."""
    large = returned["too_large"]
    assert (large.state, large.reason) == ("FAILED", "result_too_large")
    assert "1,100,011 bytes, over the limit of 1,048,576" in large.error
    assert "return its row count and key" in large.error
    warned = returned["warned"]
    assert warned.extras == {"blob": "x" * 70_000}
    assert "the extras take 70,011 bytes" in warned.log


def test_nothing_and_a_forgotten_await(stage: Stage) -> None:
    """A bare return is an empty result; a coroutine that was never awaited is refused with the reason."""
    assert stage.run("returns.shapes:nothing_at_all").extras == {}
    ran = stage.run("returns.shapes:forgotten_await")
    assert (ran.state, "an await is missing" in ran.error) == ("FAILED", True)


def test_a_plugin_normalises_its_own_type(stage: Stage) -> None:
    """A plugin by entry point and one of the plugins folder are both active in the host."""
    assert stage.run("packaged_plugin:pay", {"cents": "250"}).extras == {"cents": 250}
    observed = stage.run("contexts.looking:added")
    assert observed.extras == {"greeting": f"hello from {observed.run.job_id}"}
    assert "observed SUCCEEDED" in observed.messages


def test_hooks_are_traced(stage: Stage) -> None:
    """NOMAFLOW_TRACE_HOOKS=1 tells each hook call of a run, in its own log, with who implements it."""
    traced = stage.run("contexts.looking:added").log
    assert "nomaflow_contribute_injections(call=StepCall(reference='contexts.looking:added'" in traced
    assert "contexts.hooks packaged builtin.injecting]" in traced
    assert "nomaflow_normalise_return(" in traced
    assert "nomaflow_attempt_finished(" in traced
