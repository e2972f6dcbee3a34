"""Keys, injections and values, bound to a signature."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import pathlib
import threading
import typing
import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pydantic
import pytest
import typing_extensions

from nomaflow_host.injection.call_plan import plan_for
from nomaflow_host.injection.errors import PreparationFailed

if TYPE_CHECKING:
    from decimal import Decimal

    from nomaflow import RunContext

Optional = typing.Optional  # as authors write it
INJECTED = {"connectors": "C", "ctx": "X", "settings": "S"}


def bound(
    function: Any, op_kwargs: dict[str, Any] | None = None, params: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return the arguments that a call of *function* would get."""
    op_kwargs = op_kwargs or {}
    values = {**(params or {}), **op_kwargs}
    return plan_for(function, reference="m:f").bind(values, strict=set(op_kwargs), injections=INJECTED)


def test_swallowers_get_all_three() -> None:
    """A function with ** gets every injection and every key."""

    def work(**kwargs: Any) -> None: ...

    assert bound(work, {"a": 1}, {"b": 2}) == {"a": 1, "b": 2, **INJECTED}


def test_named_only() -> None:
    """A function without ** gets the injections and params that it names."""

    def work(*, ctx: Any, a: int) -> None: ...

    assert bound(work, {"a": 1}, {"b": 2, "connectors": 3}) == {"ctx": "X", "a": 1}


def test_no_injection_is_no_error() -> None:
    """A function that names nothing is called with nothing."""

    def work() -> None: ...

    assert bound(work, params={"b": 2}) == {}


def test_operator_wins_and_is_handed_over_as_given() -> None:
    """An op_kwarg named like an injection wins, and its annotation is not applied to it."""

    def work(*, ctx: RunContext, settings: int = 3, **_: Any) -> None: ...

    fake = object()
    assert bound(work, {"ctx": fake, "settings": "7"}) == {"ctx": fake, "settings": "7", "connectors": "C"}


def test_defaults_stay() -> None:
    """A default is left alone where nothing gives the parameter; an explicit null takes a default's place."""

    def work(*, a: int = 5, b: int = None, **_: Any) -> None: ...  # type: ignore[assignment]  # noqa: RUF013 - as authors write it

    assert "a" not in bound(work)
    assert bound(work, {"b": None})["b"] is None


@pytest.mark.parametrize(
    ("op_kwargs", "code", "words"),
    [
        ({"apps_id": 1, "max_age_day": 3}, "key_unknown", "'max_age_day' (did you mean 'max_age_days'?)"),
        ({}, "argument_missing", "needs 'apps_id'"),
        ({"apps_id": "x"}, "value_invalid", "apps_id = 'x' (str) as int"),
    ],
)
def test_answers_before_the_call(op_kwargs: dict[str, Any], code: str, words: str) -> None:
    """An unknown key, a missing one and a bad value are answered by name, with the callable."""

    def work(*, apps_id: int, max_age_days: int = 30) -> None: ...

    with pytest.raises(PreparationFailed) as caught:
        bound(work, op_kwargs)
    assert caught.value.reason_code == code
    assert words in caught.value.message
    assert "'m:f'" in caught.value.message


def test_swallowed_typo_is_named_where_something_is_missing() -> None:
    """A key taken by **_ that resembles a missing parameter is named in the error about that parameter."""

    def work(*, apps_id: int, **_: Any) -> None: ...

    with pytest.raises(PreparationFailed, match=r"needs 'apps_id'.*they give 'app_id'"):
        bound(work, {"app_id": 1})
    with pytest.raises(PreparationFailed, match=r"needs 'apps_id'.*they give 'app_id'"):
        bound(work, params={"app_id": 1})


@pytest.mark.parametrize(
    ("op_kwargs", "params", "refused"),
    [
        ({"min_row": 1}, {}, True),
        ({"mni_rows": 1}, {}, True),
        ({"min_rowss": 1}, {}, True),
        ({"min_row": 1, "min_rows": 2}, {}, False),
        ({"min_row": 1}, {"min_rows": 2}, False),
        ({}, {"min_row": 1}, False),
        ({"max_row": 1}, {}, False),
        ({"connector": 1}, {}, False),
        ({"j": 1}, {}, False),
        ({"table2": 1}, {}, False),
    ],
)
def test_misspelt_key(op_kwargs: dict[str, Any], params: dict[str, Any], refused: bool) -> None:
    """A key of op_kwargs that is one edit away from a parameter that nothing gives is refused, also beside ``**``."""

    def work(*, connectors: Any, min_rows: int = 5, i: int = 1, table1: str = "", **_: Any) -> None: ...

    plan = plan_for(work, reference="m:f")
    given = {**params, **op_kwargs}

    def check() -> None:
        for key, value in given.items():
            plan.check(key, value, strict=key in op_kwargs, given=given, injected=INJECTED)

    if not refused:
        bound(work, op_kwargs, params)
        check()
        return
    with pytest.raises(PreparationFailed, match="did you mean 'min_rows'") as caught:
        bound(work, op_kwargs, params)
    assert caught.value.reason_code == "key_unknown"
    with pytest.raises(PreparationFailed) as checked:
        check()
    assert checked.value.message == caught.value.message


def test_positional_only_fails_before_the_call() -> None:
    """Positional-only parameters are refused by name."""

    def work(apps_id: int, /, **_: Any) -> None: ...

    with pytest.raises(PreparationFailed, match="positional-only parameter 'apps_id'"):
        plan_for(work, reference="m:f")


def test_var_positional_gets_nothing() -> None:
    """*args does not stop anything."""

    def work(*args: Any, a: int) -> Any:
        return args, a

    assert work(**bound(work, {"a": 1})) == ((), 1)


def typed(annotation: Any) -> Any:
    """Return a function whose parameter x has the annotation."""

    def work(*, x): ...  # type: ignore[no-untyped-def]  # annotated below

    work.__annotations__["x"] = annotation
    return work


class Model(pydantic.BaseModel):
    """A model."""

    n: int


@dataclasses.dataclass
class Data:
    """A dataclass."""

    day: dt.date


class Typed(typing.TypedDict):
    """A TypedDict."""

    n: int


class Partial(typing.TypedDict, total=False):
    """A TypedDict with optional keys, one of them a list of others."""

    n: int
    more: list[Typed]


class Half(typing.TypedDict, total=False):
    """A TypedDict that needs one of its keys."""

    n: typing.Required[int]
    m: int


@pydantic.with_config(pydantic.ConfigDict(extra="allow"))
class Open(typing.TypedDict):
    """A TypedDict with a configuration of its own."""

    n: int


class Extended(typing_extensions.TypedDict):
    """A TypedDict as pydantic asks for it before Python 3.12."""

    n: int


@dataclasses.dataclass
class Opaque:
    """A dataclass that pydantic has no schema for."""

    lock: type(threading.Lock())  # type: ignore[valid-type]  # the point of it


class Colour(enum.Enum):
    """An enumeration."""

    RED = "red"


class Fussy(pydantic.BaseModel):
    """A model whose validator breaks."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def break_(cls, _value: Any) -> Any:
        """Raise what no validator should."""
        raise KeyError("no such thing")


class Mute:
    """A class whose schema fails without a word."""

    @classmethod
    def __get_pydantic_core_schema__(cls, *_: Any) -> Any:
        raise RuntimeError


class Opaquest:
    """A class of the author's, of which pydantic knows nothing."""


Age = typing.NewType("Age", int)
DAY = dt.date(2026, 1, 31)
MOMENT = dt.datetime(2026, 1, 31)  # noqa: DTZ001 - as a TOML file may have it

FITTING = [
    (int, 5, 5), (int, " 5 ", 5), (int, "-0", 0), (int, "1_000", 1000), (int, 3.0, 3), (int, "3.0", 3),
    (int, "1e3", 1000),
    (int, "9" * 400, int("9" * 400)),
    (float, 1.5, 1.5), (float, 2, 2.0), (float, " 2.5\n", 2.5), (float, "1e-3", 0.001), (float, ".5", 0.5),
    (float, "5.", 5.0),
    (bool, True, True), (bool, 0, False), (bool, 1, True), (bool, " Yes ", True), (bool, "NO", False),
    (bool, "on", True),
    (bool, "off", False), (bool, "t", True), (bool, "F", False), (bool, "true", True), (bool, "False", False),
    (bool, "1", True), (bool, "0", False),
    (str, " as it is ", " as it is "), (str, 5, "5"), (str, 1.5, "1.5"), (str, 10**30, "1" + "0" * 30),
    (Optional[int], None, None), (int | None, "5", 5), (Optional[str], None, None), ("int | None", "7", 7),
    ("Optional[int]", "7", 7), ("int", "7", 7), (Optional["int"], "7", 7),
    (int | str, "5", "5"), (int | str, 5, 5), (str | int, 5, 5), (str | float, 5, 5.0), (int | float, "2.5", 2.5),
    (int | float, "3", 3), (bool | None, "off", False), (int | bool, True, True), (int | dt.date, DAY, DAY),
    (list[str] | str, ["a"], ["a"]), (list[str] | str, 5, "5"), (int | dict, {"a": 1}, {"a": 1}),
    (Age, "5", 5), (dt.date, DAY, DAY), (dt.date, "2026-01-31", DAY), ("dt.date | None", "2026-01-31", DAY),
    (dt.datetime, "2026-01-31", MOMENT), (dt.time, "07:30", dt.time(7, 30)),
    (dt.timedelta, "PT90S", dt.timedelta(seconds=90)), (decimal.Decimal, "1.50", decimal.Decimal("1.50")),
    (uuid.UUID, "12345678123456781234567812345678", uuid.UUID("12345678123456781234567812345678")),
    (pathlib.Path, "a/b", pathlib.Path("a/b")), (Colour, "red", Colour.RED), (Literal["a"], "a", "a"),
    (list[int], ["1"], [1]), (dict[str, int], {"a": "1"}, {"a": 1}), (tuple[int, ...], ["1"], (1,)),
    (int | dt.date, "5", 5), (int | dt.date, "2026-01-31", DAY), (str | dt.date, "2026-01-31", "2026-01-31"),
    (bool | Literal["auto"], "auto", "auto"), (bool | Literal["auto"], "no", False),
    (list[int] | str, ["1"], [1]), (list[int] | str, 5, "5"),
    (Any, "5", "5"), (Iterable[int], ["1"], ["1"]), (Opaquest, 5, 5), (list[Opaquest], [5], [5]),
    (Opaquest | None, 5, 5), (Opaquest | int, "5", 5), (Opaquest | int, "x", "x"), (list["Nowhere"], [5], [5]),  # noqa: F821 - a name that is nowhere
    ("Decimal", "5", "5"), ("no such name", "5", "5"), ("1/0", "5", "5"),
    ("int | Decimal", "5", "5"),
    (Model, {"n": "5"}, Model(n=5)), (Data, {"day": "2026-01-31"}, Data(DAY)), (Data, {"day": DAY}, Data(DAY)),
    (Typed, {"n": "5"}, {"n": 5}), (Annotated[int, pydantic.Field(gt=3)], "5", 5), (Optional[Model], None, None),
    (list[Model], [{"n": 1}], [Model(n=1)]), (Partial, {}, {}), (Partial, {"more": [{"n": "5"}]}, {"more": [{"n": 5}]}),
    (Half, {"n": "5"}, {"n": 5}), (Typed | None, {"n": "5"}, {"n": 5}), (Annotated[Typed, "doc"], {"n": "5"}, {"n": 5}),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "value", "expected"), FITTING)
def test_values_that_fit(annotation: Any, value: Any, expected: Any) -> None:
    """Each value becomes what its annotation says, or passes through."""
    result = bound(typed(annotation), {"x": value})["x"]
    assert result == expected
    assert type(result) is type(expected)


REFUSED = [
    (int, "x"), (int, ""), (int, "3.5"), (int, 3.5), (int, True), (int, None), (int, [1]), (int, "٣"), (int, "0x10"),
    (int, "1e999999999999"), (int, "9" * 5000), (int, DAY), (float, "nan"), (float, "inf"), (float, "1e999"),
    (float, True),
    (float, 2**53 + 1), (float, 10**400), (float, "1,5"), (bool, "maybe"), (bool, 2), (bool, 1.0), (bool, None),
    (bool, ""),
    (str, True), (str, None), (str, DAY), (str, ["a"]), (str, {"a": 1}), (Optional[int], "x"), (Optional[int], ""),
    (int | float, "x"), ("int | None", 3.5), (int | None, True), (Model, {"n": "x"}), (Model, 5),
    (Data, {"day": "soon"}),
    (Typed, {}), (Half, {"m": 1}), (Annotated[int, pydantic.Field(gt=3)], 2), (Age, "x"),
    (Annotated[int, pydantic.AfterValidator(lambda value: value)], "x"),
    (dt.date, "soon"), (dt.date, MOMENT.replace(hour=7)), (decimal.Decimal, "x"), (Colour, "blue"),
    (Literal["a"], "b"), (list[int], ["x"]), (list[int], "1"), (dict[str, int], {"a": "x"}), (int | dt.date, "soon"),
    (bool | Literal["auto"], "maybe"), (dt.date | None, "soon"), (Fussy, 1),
    (Partial, {"n": "x"}), (Partial, {"more": [{}]}), (Opaque, {"lock": 1}), (Annotated[Mute, "a note"], 1),
    (int, "9" * 4301), (int, "1e99999999999999999999"), (int, "1e-99999999999999999999"),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "value"), REFUSED)
def test_values_that_do_not_fit(annotation: Any, value: Any) -> None:
    """Each value that does not fit is refused with key, value and type."""
    with pytest.raises(PreparationFailed) as caught:
        bound(typed(annotation), {"x": value})
    assert caught.value.reason_code == "value_invalid"
    assert "cannot take x = " in caught.value.message
    assert f"({type(value).__name__})" in caught.value.message
    assert " at 0x7" not in caught.value.message
    assert len(caught.value.message) < 500


@pytest.mark.parametrize(
    ("annotation", "value", "told"),
    [
        (Data, {"day": DAY, "dya": 1}, "dya: unknown key (did you mean 'day'?)"),
        (list[Data] | None, [{"day": DAY, "hour": 1}], "0.hour: unknown key)"),
        (Partial, {"n": 1, "mroe": []}, "mroe: unknown key (did you mean 'more'?)"),
        (dict[str, Partial], {"a": {"more": [{"n": 1, "N": 2}]}}, "a.more.0.N: unknown key (did you mean 'n'?)"),
        (Extended, {"n": 1, "N": 2}, "N: unknown key (did you mean 'n'?)"),
        (int | Data, {"day": DAY, "dya": 1}, "Data.dya: unknown key (did you mean 'day'?)"),
    ],
)
def test_unknown_keys_of_a_table(annotation: Any, value: Any, told: str) -> None:
    """A key that a dataclass or a TypedDict lacks is refused with the near match, at any depth."""
    with pytest.raises(PreparationFailed) as caught:
        bound(typed(annotation), {"x": value})
    assert told in f"{caught.value.message})"


def test_an_abbreviation_keeps_its_capitals() -> None:
    """A message that pydantic begins with one is no word with a capital."""
    with pytest.raises(PreparationFailed, match="UUID input should be a string"):
        bound(typed(uuid.UUID), {"x": 5})


def test_a_class_may_take_unknown_keys() -> None:
    """A class with a configuration of its own decides what happens to unknown keys."""
    assert bound(typed(Open), {"x": {"n": 1, "m": 2}})["x"] == {"n": 1, "m": 2}
    assert bound(typed(Model), {"x": {"n": 1, "m": 2}})["x"] == Model(n=1)


def test_string_annotations_hide_only_themselves() -> None:
    """A name that only a type checker knows leaves the coercion of other parameters intact."""

    def work(*, price: Decimal, n: int, **rest: int) -> None: ...

    assert bound(work, {"price": "1.5", "n": "2", "other": "3"}) == {"price": "1.5", "n": 2, "other": "3", **INJECTED}


def test_resolved_secrets_stay_out_of_messages() -> None:
    """A value that came from the environment is shown as the reference it was."""

    def work(*, port: int) -> None: ...

    with pytest.raises(PreparationFailed) as caught:
        plan_for(work, reference="m:f").bind(
            {"port": "s3cret"}, strict={"port"}, injections={}, shown={"port": "${PORT}"}
        )
    assert "s3cret" not in caught.value.message
    assert "${PORT}" in caught.value.message
