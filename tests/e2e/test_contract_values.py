"""Annotations beyond the scalars, misspelt keys and forgotten awaits, in a real kernel, host and workers."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from contract_stage import Stage, job_of

from nomaflow.client import ClientError, TriggerOrder

pytestmark = pytest.mark.e2e

KEY = "12345678-1234-5678-1234-567812345678"
TYPED: dict[str, tuple[Any, list[str]]] = {
    "since": ("2026-11-02", ["date", "2026-11-02"]),
    "at": ("07:30", ["time", "07:30:00"]),
    "moment": ("2026-11-02T07:30:00", ["datetime", "2026-11-02 07:30:00"]),
    "window": ("PT90M", ["timedelta", "1:30:00"]),
    "price": ("1.50", ["Decimal", "1.50"]),
    "key": (KEY, ["UUID", KEY]),
    "file": ("in/orders.csv", ["PosixPath", "in/orders.csv"]),
    "colour": ("red", ["Colour", "Colour.RED"]),
    "mode": ("delta", ["str", "delta"]),
    "ids": (["1", 2], ["list", "[1, 2]"]),
    "counts": ({"a": "1"}, ["dict", "{'a': 1}"]),
    "until": ("2026-11-03", ["date", "2026-11-03"]),
    "either": ("2026-11-04", ["date", "2026-11-04"]),
    "opaque": ("as it is", ["str", "as it is"]),
    "unknown": ("as it is", ["str", "as it is"]),
}


def test_annotations_that_pydantic_knows(stage: Stage) -> None:
    """Text becomes the annotated type, in params and op_kwargs; an unresolvable annotation passes values unchanged."""
    values = {name: value for name, (value, _) in TYPED.items()}
    expected = {name: told for name, (_, told) in TYPED.items()}
    assert stage.run("binding.typed:standard", values).extras == expected
    assert stage.run("binding.typed:standard", params=values).extras == expected
    assert stage.run("binding.typed:standard", {"since": dt.date(2026, 11, 2), "either": "7"}).extras == {
        "since": ["date", "2026-11-02"],
        "either": ["int", "7"],
    }


def _order(reference: str, **kwargs: Any) -> TriggerOrder:
    return TriggerOrder(job_id=job_of(reference), steps={"it": True}, op_kwargs={"it": kwargs})


def test_misspelt_keys(stage: Stage) -> None:
    """A misspelt key is refused at the trigger; an ignored one and a misspelt param are warnings; a missing one is named."""
    for reference in ("binding.typed:swallows", "binding.typed:collects"):
        with pytest.raises(ClientError, match=r"does not name the op_kwargs key 'min_row'.*did you mean 'min_rows'"):
            stage.client.trigger(_order(reference, min_row=100))
    outcome = stage.client.trigger(_order("binding.typed:swallows", maximum=100))
    assert len(outcome.warnings) == 1
    assert "does not name 'maximum', so the key is ignored" in outcome.warnings[0]
    assert stage.ended(outcome.run_id).extras == {"min_rows": 5}
    collected = stage.client.trigger(_order("binding.typed:collects", maximum=100))
    assert collected.warnings == ()
    assert stage.ended(collected.run_id).extras == {"min_rows": 5, "fields": ["maximum"]}
    meant = stage.client.trigger(
        TriggerOrder(job_id=job_of("binding.typed:swallows"), steps={"it": True}, params={"min_row": 100})
    )
    assert meant.warnings == ("nothing names the param 'min_row'; did you mean 'min_rows'?",)
    lacking = stage.run("binding.typed:needs", {"my_apps_id": 1})
    assert (lacking.state, lacking.reason) == ("FAILED", "argument_missing")
    assert "needs 'apps_id'" in lacking.error
    assert "'my_apps_id'" in lacking.error


def test_coroutines_that_are_never_awaited(stage: Stage, tmp_path: Path) -> None:
    """A step that makes a coroutine and never awaits it fails, naming it; the steps beside it do not."""
    path = str(tmp_path / "written")
    ran = stage.run_all(
        {
            "a connector, in a plain def": ("binding.typed:forgets", None),
            "a function of the module": ("binding.typed:forgets_its_own", {"path": path}),
            **{f"beside {number}": ("binding.typed:forgets_beside_others", {"number": number}) for number in range(6)},
        }
    )
    names = {"a connector, in a plain def": ".fetch_all'", "a function of the module": "'write'"}
    names |= {f"beside {number}": "'write'" for number in (1, 3, 5)}
    for name, word in names.items():
        assert (ran[name].state, ran[name].reason) == ("FAILED", "never_awaited"), name
        assert "was never awaited" in ran[name].error
        assert word in ran[name].error
    assert [ran[f"beside {number}"].extras for number in (0, 2, 4)] == [{"number": number} for number in (0, 2, 4)]
    assert not Path(path).exists()


def test_no_step_is_blamed_for_the_coroutine_of_another(stage: Stage) -> None:
    """A coroutine that only the garbage collector finds, in a later step, fails neither."""
    assert stage.run("binding.typed:hides_it_in_a_cycle").state == "SUCCEEDED"
    collected = stage.run("binding.typed:collects_garbage")
    assert collected.state == "SUCCEEDED"
    assert any("coroutine 'write' was never awaited" in line for line in collected.messages)


def test_a_coroutine_that_was_refused_is_not_forgotten(stage: Stage) -> None:
    """Code that hands a coroutine to a loop that refuses it, and goes another way, succeeds."""
    assert stage.run("binding.typed:is_refused_and_goes_on").extras == {"done": 42}
    assert stage.run("binding.typed:has_no_loop_and_goes_on").extras["done"] == 42


def test_awaitables_that_are_returned(stage: Stage, tmp_path: Path) -> None:
    """A coroutine that a plain def returns is run to its end; another awaitable is refused."""
    path = tmp_path / "written"
    assert stage.run("binding.typed:returns_it", {"path": str(path)}).state == "SUCCEEDED"
    assert path.exists()
    refused = stage.run("binding.typed:returns_a_future")
    assert (refused.state, refused.reason) == ("FAILED", "return_invalid")
    assert "an await is missing" in refused.error
