"""A step type that tells its secrets in every way that a step has."""

from __future__ import annotations

import base64
import logging
import os
import subprocess
import sys
import threading
import warnings
from typing import Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict
from sqlalchemy import text

from nomaflow import StepCancelled, StepFailed, hookimpl
from nomaflow.calls import StepType

os.environ["SET_AT_IMPORT_TOKEN"] = os.environ["TEST_SET_AT_IMPORT"]


class Source(BaseModel):
    """The source of a copy."""

    model_config = ConfigDict(extra="forbid")

    connector: str
    batch: int = 100


class CopyFields(BaseModel):
    """The fields of a copy."""

    model_config = ConfigDict(extra="forbid")

    source: Source
    columns: list[str] = []
    mode: Literal["append", "replace"] = "append"


@hookimpl
def nomaflow_step_types() -> list[StepType]:
    """Contribute two types with open fields, and one with a model."""
    return [
        StepType(name="leak", callable="leaking:leak", overridable=("tries", "mode", "note"), secret=("pin", "deep")),
        StepType(name="reach", callable="leaking:reach", overridable=("tries",)),
        StepType(name="copy", callable="leaking:copy", model=CopyFields),
    ]


def copy(*, source: dict[str, Any], columns: tuple[str, ...] = (), mode: str = "append") -> dict[str, Any]:
    """Return what it was given."""
    return {"source": source, "columns": list(columns), "mode": mode}


def leak(*, ctx: Any, mode: str = "return", tries: int = 1, **fields: Any) -> dict[str, Any]:
    """Tell every field in every way, then end as asked."""
    fields = {name: value for name, value in fields.items() if name not in ("connectors", "settings")}
    told = repr(fields)
    for secret in [*_texts(fields), *_texts(dict(ctx.params))]:
        _tell(ctx, secret)
    ctx.log.info("all of it: %s, %s", told, fields)
    if mode == "fail":
        raise StepFailed(f"refused with {told}")
    if mode == "cancel":
        raise StepCancelled(f"given up with {told}")
    if mode == "raise":
        try:
            raise KeyError(told)
        except KeyError as error:
            raise ValueError("x" * (1990 - len("ValueError: ")) + told) from error
    if mode == "wrong":
        return set(fields.values())  # type: ignore[return-value]  # refused, naming its type
    return {"tries": tries, "told": told, "fields": fields, "params": dict(ctx.params), told: [told], "n": len(told)}


async def leak_async(*, ctx: Any, mode: str = "return", **fields: Any) -> dict[str, Any]:
    """Do the same on the event loop."""
    return leak(ctx=ctx, mode=mode, **fields)


def reach(*, url: str, tries: int = 1, **fields: Any) -> dict[str, Any]:
    """Return what reached it."""
    return {"url": url, "tries": tries, "others": sorted(fields.keys() - {"connectors", "ctx", "settings"})}


async def bind(*, connectors: Any, pool: str = "main") -> None:
    """Have a statement fail with a value bound to it."""
    async with connectors.pools.engine(pool).begin() as db:
        await db.execute(text("create table if not exists t (a text primary key, b text not null)"))
        await db.execute(text("insert into t values (:a, :b)"), {"a": "-".join(("the", "bound", "value")), "b": None})


def _texts(tree: Any) -> list[str]:
    if isinstance(tree, dict):
        return [found for value in tree.values() for found in _texts(value)]
    if isinstance(tree, list):
        return [found for value in tree for found in _texts(value)]
    return [tree] if isinstance(tree, str) else []


def _tell(ctx: Any, secret: str) -> None:
    ctx.log.info("log %s", secret)
    logging.getLogger("a.library").warning("library %s", {"Authorization": f"Bearer {secret}"})
    print("printed", secret, quote(secret, safe=""))  # the purpose of this module
    print("printed to stderr", secret, file=sys.stderr)  # the purpose of this module
    print("base64", base64.b64encode(f"user:{secret}".encode()).decode())  # the purpose of this module
    raw, half = secret.encode(), len(secret) // 2
    print("hex", raw.hex(), raw.hex().upper(), "base32", base64.b32encode(raw).decode())
    print("two writes", secret[:half], end="")
    print(secret[half:])
    if len(secret) >= 16 and not set(secret) & set(" :\n"):  # a secret alone: of a longer text, any part may be cut
        print("two lines", secret[:half])
        print(secret[half:], "is the rest")
        subprocess.run(
            ["sh", "-c", 'printf "pieces %s" "$1"; sleep 0.05; printf "%s\n" "$2"', "sh", secret[:half], secret[half:]],
            check=True,
        )
    warnings.warn(f"warned {secret}", stacklevel=1)
    os.write(1, f"written {secret}\n".encode())
    os.write(2, f"written to 2 {secret}\n".encode())
    subprocess.run(["sh", "-c", 'printf "%s\n" "$1"; printf "%s\n" "$1" >&2', "sh", secret], check=True)
    thread = threading.Thread(target=lambda: ctx.log.info("thread %s", secret))
    thread.start()
    thread.join()
    try:
        raise RuntimeError(secret)
    except RuntimeError:
        ctx.log.exception("caught")
    ctx.progress(1, 2, f"progress {secret}")
