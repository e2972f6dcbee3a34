"""Steps that return the values that they received."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

import pydantic

from nomaflow import ConnectorRegistry, RunContext, Settings

if TYPE_CHECKING:
    from decimal import Decimal

    from nowhere import Nothing


def told(**values):
    """Return type and text of each value."""
    return {name: [type(value).__name__, str(value)] for name, value in values.items()}


async def everything(**kwargs):
    return {"names": sorted(kwargs), "ctx": type(kwargs["ctx"]).__name__}


async def keywords(**options):
    return {"names": sorted(options)}


async def nothing():
    return {"names": []}


async def only_ctx(*, ctx):
    return {"run_id": ctx.run_id}


async def all_three(*, connectors: ConnectorRegistry, ctx: RunContext, settings: Settings):
    kinds = [(connectors, ConnectorRegistry), (ctx, RunContext), (settings, Settings)]
    return {"right": [isinstance(given, kind) for given, kind in kinds]}


async def injected_elsewhere(*, connectors, **_):
    return {"connectors": connectors if isinstance(connectors, str) else type(connectors).__name__}


async def own_default(*, settings="mine", n: int = 5):
    return {"settings": settings if isinstance(settings, str) else type(settings).__name__, "n": n}


async def positional(apps_id: int, max_age_days: int = 30, *rest, name: str = "x"):
    return {"apps_id": apps_id, "max_age_days": max_age_days, "rest": len(rest), "name": name}


async def unevaluable(*, a: Nothing, b: Decimal, c: int, d: Nothing | int = 3, e: 1 / 0 = None, **rest: int):
    return told(a=a, b=b, c=c, d=d, **{name: value for name, value in rest.items() if name == "other"})


class Colour(enum.Enum):
    """Some colours."""

    RED = "red"


class Model(pydantic.BaseModel):
    """A model."""

    n: int


@dataclasses.dataclass
class Window:
    """A dataclass."""

    start: dt.date
    end: dt.date | None = None


class Row(TypedDict):
    """A TypedDict."""

    n: int


async def scalars(*, i: int = 0, f: float = 0.0, b: bool = False, s: str = "", o: int | None = None, u: int | str = 0):
    return told(i=i, f=f, b=b, s=s, o=o, u=u)


async def structures(
    *,
    model: Model = None,
    window: Window = None,
    row: Row = None,
    positive: Annotated[int, pydantic.Field(gt=0)] = 1,
    models: list[Model] = (),
):
    return {"model": repr(model), "window": repr(window), "row": row, "positive": positive, "models": repr(models)}


async def untouched(
    *, colour: Colour = None, literal: Literal["a"] = "a", anything: Any = None, plain=None, items: list[int] = ()
):
    return told(colour=colour, literal=literal, anything=anything, plain=plain, items=items)


async def dates(*, day, at, moment, local, nested, **_):
    return told(day=day, at=at, moment=moment, local=local, inner=nested["days"][0])


async def exactly(*, n: int, text: str = "", **_):
    return {"digits": len(str(abs(n))), "n": n, "text": text}


async def echo(*, ctx, value=None, **rest):
    return {"value": value}


async def size(*, blob, **_):
    return {"rows_affected": len(blob), "same": blob == "x" * len(blob)}


_seen: list[int] = []


async def mutable_default(*, seen: list = _seen):
    seen.append(1)
    return {"seen": len(seen)}


async def odd_names(*, class_=None, _private=None, Ünï=None, self=None, cls=None, reference=None, values=None, **kw):  # noqa: N803
    names = {"class_": class_, "_private": _private, "Ünï": Ünï, "self": self, "cls": cls}
    return {
        **names,
        "reference": reference,
        "values": values,
        "kw": sorted(set(kw) - {"ctx", "connectors", "settings"}),
    }


def secret_port(*, port: int, **_):
    return port
