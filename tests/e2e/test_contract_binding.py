"""Injection, keys and values, as a callable in a real worker gets them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest
from contract_stage import Stage, job_of

from nomaflow.client import ClientError, TriggerOrder

pytestmark = pytest.mark.e2e

BIG = int("7" * 4000)
INJECTED = ["connectors", "ctx", "greeting", "settings", "wallet"]
BOUND: dict[str, tuple[str, dict[str, Any] | None, dict[str, Any]]] = {
    "** gets all": ("binding.values:everything", {"a": 1}, {"names": ["a", *INJECTED], "ctx": "RunContext"}),
    "** of any name": ("binding.values:keywords", None, {"names": INJECTED}),
    "nothing asked": ("binding.values:nothing", None, {"names": []}),
    "all three by name": (
        "binding.values:all_three",
        None,
        {"right": [True, True, True]},
    ),
    "op_kwarg wins": ("binding.values:injected_elsewhere", {"connectors": "fake"}, {"connectors": "fake"}),
    "injected": ("binding.values:injected_elsewhere", None, {"connectors": "HostConnectorRegistry"}),
    "default of an injected name": ("binding.values:own_default", None, {"settings": "Settings", "n": 5}),
    "overridden": ("binding.values:own_default", {"settings": "7", "n": "7"}, {"settings": "7", "n": 7}),
    "positional or keyword": (
        "binding.values:positional",
        {"apps_id": "10", "name": 5},
        {"apps_id": 10, "max_age_days": 30, "rest": 0, "name": "5"},
    ),
    "unevaluable annotations": (
        "binding.values:unevaluable",
        {"a": "1", "b": "1.5", "c": "2", "d": "4", "other": "8"},
        {"a": ["str", "1"], "b": ["str", "1.5"], "c": ["int", "2"], "d": ["str", "4"], "other": ["str", "8"]},
    ),
    "scalars from text": (
        "binding.values:scalars",
        {"i": " 1_000 ", "f": "1e3", "b": "Off", "s": " as is ", "o": "5", "u": "5"},
        {
            "i": ["int", "1000"],
            "f": ["float", "1000.0"],
            "b": ["bool", "False"],
            "s": ["str", " as is "],
            "o": ["int", "5"],
            "u": ["str", "5"],
        },
    ),
    "scalars from numbers": (
        "binding.values:scalars",
        {"i": 3.0, "f": 2, "b": 1, "s": 10**30, "o": None, "u": 5},
        {
            "i": ["int", "3"],
            "f": ["float", "2.0"],
            "b": ["bool", "True"],
            "s": ["str", "1" + "0" * 30],
            "o": ["NoneType", "None"],
            "u": ["int", "5"],
        },
    ),
    "structures": (
        "binding.values:structures",
        {"model": {"n": "5"}, "window": {"start": "2026-01-31"}, "row": {"n": "1"}, "positive": "3", "models": [{"n": 1}]},
        {
            "model": "Model(n=5)",
            "window": "Window(start=datetime.date(2026, 1, 31), end=None)",
            "row": {"n": 1},
            "positive": 3,
            "models": "[Model(n=1)]",
        },
    ),
    "structures by default": (
        "binding.values:structures",
        {"model": None},
        {"model": "None", "window": "None", "row": None, "positive": 1, "models": "()"},
    ),
    "untouched": (
        "binding.values:untouched",
        {"anything": "5", "plain": "5"},
        {
            "colour": ["NoneType", "None"],
            "literal": ["str", "a"],
            "anything": ["str", "5"],
            "plain": ["str", "5"],
            "items": ["tuple", "()"],
        },
    ),
    "4,000 digits": ("binding.values:exactly", {"n": BIG}, {"digits": 4000, "n": BIG, "text": ""}),
    "4,300 digits as text": (
        "binding.values:exactly",
        {"n": "-" + "9" * 4300, "text": 10**4299},
        {"digits": 4300, "n": -int("9" * 4300), "text": str(10**4299)},
    ),
    "a literal": ("binding.values:echo", {"value": {"$literal": {"$date": 1}}}, {"value": {"$date": 1}}),
    "unicode, null and depth": (
        "binding.values:echo",
        {"value": {"ключ\x00": ["😀", {"a": [[[1.5e-300, None, True]]]}]}},
        {"value": {"ключ\x00": ["😀", {"a": [[[1.5e-300, None, True]]]}]}},
    ),
    "200 KiB": ("binding.values:size", {"blob": "x" * 200_000}, {"same": True}),
    "odd names": (
        "binding.values:odd_names",
        {"class_": 1, "_private": 2, "Ünï": 3, "self": 4, "cls": 5, "reference": 6, "values": 7, "with space": 8, "if": 9},
        {
            "class_": 1, "_private": 2, "Ünï": 3, "self": 4, "cls": 5, "reference": 6, "values": 7,
            "kw": ["greeting", "if", "wallet", "with space"],
        },
    ),
}  # fmt: skip


def test_what_arrives(stage: Stage) -> None:
    """Injections, keys and coerced values arrive by the rules, in every kind of signature."""
    ran = stage.run_all({name: (reference, kwargs) for name, (reference, kwargs, _) in BOUND.items()})
    told = {name: (each.state, dict(each.it.extras), each.error) for name, each in ran.items()}
    assert told == {name: ("SUCCEEDED", expected, "") for name, (_, _, expected) in BOUND.items()}


def test_ctx_is_of_this_run(stage: Stage) -> None:
    """The injected ctx carries the run's own id."""
    ran = stage.run("binding.values:only_ctx")
    assert ran.extras == {"run_id": ran.run.run_id}


UNFIT: dict[str, Any] = {
    "since": "soon", "window": "long", "price": "cheap", "key": "x", "colour": "blue", "mode": "most", "ids": ["x"],
    "counts": {"a": "x"}, "either": "soon",
}  # fmt: skip
REFUSED: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "unknown key": (
        "binding.values:positional",
        {"apps_id": 1, "max_age_day": 3},
        "key_unknown",
        "does not take the op_kwargs key 'max_age_day' (did you mean 'max_age_days'?)",
    ),
    "missing": ("binding.values:positional", {}, "argument_missing", "needs 'apps_id'"),
    "missing, misspelt": ("binding.values:exactly", {"m": 1}, "argument_missing", "needs 'n'"),
    "not an int": ("binding.values:positional", {"apps_id": "ten"}, "value_invalid", "apps_id = 'ten' (str)"),
    "a fraction": ("binding.values:positional", {"apps_id": 1.5}, "value_invalid", "got a fraction"),
    "a bool": ("binding.values:positional", {"apps_id": True}, "value_invalid", "got a bool"),
    "null": ("binding.values:positional", {"apps_id": None}, "value_invalid", "apps_id = None (NoneType)"),
    "a list": ("binding.values:scalars", {"s": ["a"]}, "value_invalid", "s = ['a'] (list) as str"),
    "a model": ("binding.values:structures", {"model": {"n": "x"}}, "value_invalid", "n: input should be a valid integer"),
    "a bound": ("binding.values:structures", {"positive": 0}, "value_invalid", "greater than 0"),
    "a dataclass": ("binding.values:structures", {"window": {"start": "soon"}}, "value_invalid", "start: "),
    "positional-only": ("kinds.zoo:positional_only", {"n": 1}, "callable_unsupported", "positional-only"),
    "a reference": ("binding.values:secret_port", {"port": "${PORT_OF_TEST}"}, "value_invalid", "port = '${PORT_OF_TEST}'"),
    **{
        name: (
            "binding.typed:standard", {name: value}, "value_invalid",
            f"cannot take {name} = {value!r} ({type(value).__name__}) as ",
        )
        for name, value in UNFIT.items()
    },
}  # fmt: skip


def test_what_is_refused_before_the_call(stage: Stage) -> None:
    """Keys and values that do not fit FAIL before the call, by name, with the callable and without a traceback."""
    ran = stage.run_unchecked({name: (reference, kwargs) for name, (reference, kwargs, _, _) in REFUSED.items()})
    for name, (reference, _, code, words) in REFUSED.items():
        each = ran[name]
        assert (each.state, each.reason) == ("FAILED", code), (name, each.error)
        assert words in each.error, name
        assert reference in each.error
        assert "Traceback" not in each.log + each.error
        assert len(each.error) < 600
        assert each.it.started_at is None


def test_references_of_a_file_that_do_not_fit(stage: Stage) -> None:
    """A reference without a value and one whose value does not fit FAIL before the call; the value is never shown."""
    unset, bad = (stage.run_job("refers", preset=preset) for preset in ("unset", "no port"))
    assert (unset.state, unset.reason) == ("FAILED", "environment_missing")
    assert "'NO_SUCH' is not set" in unset.error
    assert (bad.state, bad.reason) == ("FAILED", "value_invalid")
    assert "${PORT_OF_TEST}" in bad.error
    assert "not-a-port" not in bad.error + bad.log
    for each in (unset, bad):
        assert "Traceback" not in each.log + each.error
        assert each.it.started_at is None


def test_dates_of_a_file(stage: Stage) -> None:
    """TOML's dates and times arrive as what they are, with their offset, at any depth."""
    assert stage.run_job("calendar").extras == {
        "day": ["date", "2026-01-31"],
        "at": ["time", "07:30:00.500000"],
        "moment": ["datetime", "2026-01-31 07:30:00+02:00"],
        "local": ["datetime", "2026-01-31 07:30:00"],
        "inner": ["date", "2026-02-28"],
    }


def test_dates_of_a_client(stage: Stage) -> None:
    """A Python client gives dates and times as they are, alone or inside a list, or as the tags of the wire."""
    given = {"day": date(2026, 2, 1), "moment": datetime(2026, 2, 1, 8, tzinfo=UTC), "nested": {"days": [date.max]}}
    extras = stage.run_job("calendar", op_kwargs={"dates": given | {"at": {"$time": "09:00:00"}}}).extras
    assert extras == {
        "day": ["date", "2026-02-01"],
        "at": ["time", "09:00:00"],
        "moment": ["datetime", "2026-02-01 08:00:00+00:00"],
        "local": ["datetime", "2026-01-31 07:30:00"],
        "inner": ["date", "9999-12-31"],
    }


def test_layers(stage: Stage) -> None:
    """job.params < step.op_kwargs < preset < run params < run op_kwargs."""
    seen = []
    for order in (
        {},
        {"preset": "busy"},
        {"preset": "busy", "params": {"i": 4}},
        {"preset": "busy", "params": {"i": 4}, "op_kwargs": {"it": {"i": 5}}},
    ):
        extras = stage.run_job("layers", **order).extras
        seen.append((extras["i"][1], extras["f"][1], extras["s"][1]))
    assert seen == [("2", "2.0", "job"), ("3", "3.0", "job"), ("4", "3.0", "job"), ("5", "3.0", "job")]


def test_a_param_that_nobody_takes(stage: Stage) -> None:
    """A run param that no enabled step takes is refused at the trigger, with the near match."""
    order = TriggerOrder(job_id=job_of("binding.values:positional"), steps={"it": True}, params={"apps_idd": 1})
    with pytest.raises(ClientError, match=r"'apps_idd'.*apps_id"):
        stage.client.trigger(order)


def test_params_reach_who_names_them(stage: Stage) -> None:
    """Run params go to functions that name them, coerced, and stay in ctx.params for the others."""
    ran = stage.run("binding.values:positional", params={"apps_id": "12"})
    assert ran.extras["apps_id"] == 12
    looked = stage.run("contexts.looking:surface", params={"apps_id": "12"})
    assert looked.extras["params"] == {"apps_id": "12"}
