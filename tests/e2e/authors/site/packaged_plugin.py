"""An installed distribution that is a plugin by its entry point."""

from __future__ import annotations

from nomaflow import StepResult, hookimpl


class Money:
    """The type that this plugin's callables return."""

    def __init__(self, cents):
        self.cents = cents


@hookimpl
def nomaflow_normalise_return(value):
    return StepResult(extras={"cents": value.cents}) if isinstance(value, Money) else None


@hookimpl
def nomaflow_contribute_injections():
    return {"wallet": "packaged"}


async def pay(*, wallet: str, cents: int):
    return Money(cents if wallet == "packaged" else 0)
