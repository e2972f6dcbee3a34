"""The rules, one for each common mistake of authors of callables."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One mistake.

    :param mistake: the mistake, as a title
    :param symptom: the effect that its author sees
    :param fix: the way out
    """

    code: str
    mistake: str
    symptom: str
    fix: str


@dataclass(frozen=True, slots=True)
class Sighting:
    """A mistake in the source of a callable: a comment on its lines may silence it.

    :param first_line: with ``last_line``: the lines on which a comment silences it; 0 for the node's own
    """

    code: str
    node: ast.stmt | ast.expr | ast.arg | ast.excepthandler
    message: str
    first_line: int = 0
    last_line: int = 0


_RULES = (
    Rule(
        code="NF101",
        mistake="positional parameters",
        symptom="arguments come by name, so the order of parameters means nothing; a `/` fails the attempt",
        fix="put *, before the first parameter",
    ),
    Rule(
        code="NF103",
        mistake="a loop that never asks whether it must stop",
        symptom="a cancel ends the code wherever it is; code that takes ctx gets the grace period first",
        fix="ask ctx.is_cancelled() in the loop and raise StepCancelled, or, in an async def, await in it",
    ),
    Rule(
        code="NF104",
        mistake="every exception is swallowed",
        symptom="the step always succeeds; failures are invisible",
        fix="let the exception out, raise again after logging, or catch only what you expect",
    ),
    Rule(
        code="NF105",
        mistake="a cancellation is swallowed",
        symptom="the code goes on after a cancel until its worker is killed",
        fix="do not catch it, or raise again after cleaning up",
    ),
    Rule(
        code="NF108",
        mistake="a blocking call in a coroutine",
        symptom="every step in the same worker stands still, and so does a cancel",
        fix="await the async variant, or wrap the call in await asyncio.to_thread(...)",
    ),
    Rule(
        code="NF109",
        mistake="a coroutine is not awaited",
        symptom="the query, request or function never runs, and the step fails when it returns",
        fix="await it, in an async def; in a plain def use pools.sync_engine or asyncio.run(...)",
    ),
)

RULES: Mapping[str, Rule] = MappingProxyType({rule.code: rule for rule in _RULES})
"""Code to rule."""
