"""Declarations of a command's options and arguments, each of which stands as the default of a parameter."""

from __future__ import annotations

from typing import Any

import typer


def option(meaning: str, *names: str, default: Any = "", **more: Any) -> Any:
    """Return the declaration of an option; its variable follows a rule of docs/cli.md, so the help does not repeat it.

    :param names: further names, such as ``-f``; the first is the parameter's own, unless these begin with a long one
    :param more: settings of :func:`typer.Option`
    """
    return typer.Option(default, *names, help=meaning, show_envvar=False, **more)


def flag(meaning: str, *names: str) -> Any:
    """Return the declaration of an option without a value."""
    return option(meaning, *names, default=False)


def repeated(meaning: str, *names: str) -> Any:
    """Return the declaration of an option that may be given several times."""
    return option(meaning, *names, default=[])


def argument(meaning: str, *, default: Any = ..., **more: Any) -> Any:
    """Return the declaration of an argument.

    :param more: settings of :func:`typer.Argument`
    """
    return typer.Argument(default, help=meaning, **more)
