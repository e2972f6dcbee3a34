"""The options that many commands share: a decorator adds them to a command, which gets them as one value."""

from __future__ import annotations

import enum
import inspect
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["CaOption", "Invocation", "Output", "local_command", "remote_command"]


class Output(enum.StrEnum):
    """The output format."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Invocation:
    """The values of the shared options.

    :param address: addresses of the kernel; empty means the project's
    :param token: given token; None means none or the project's
    :param ca: file of the authorities that must vouch for the kernel; None means the system's
    """

    output: Output = Output.TEXT
    project: Path | None = None
    address: tuple[str, ...] = ()
    token: str | None = None
    token_file: Path | None = None
    ca: Path | None = None

    @property
    def as_json(self) -> bool:
        """True if a program reads the output."""
        return self.output is Output.JSON


_OUTPUT = Annotated[Output, typer.Option("--output", "-o", envvar="NOMAFLOW_OUTPUT", help="Output format.")]
_PROJECT = Annotated[
    Path | None,
    typer.Option(
        "--project", envvar="NOMAFLOW_PROJECT", help="Project directory; default: found from the working directory."
    ),
]
_ADDRESS = Annotated[
    list[str] | None,
    typer.Option(
        "--address",
        show_envvar=False,
        help="Kernel address: unix:/path, host:port or tls://host:port; separate several with commas. "
        "Default: NOMAFLOW_ADDRESS, else the project's own kernel, else [host] kernel of nomaflow.toml.",
    ),
]
_TOKEN = Annotated[
    str | None,
    typer.Option("--token", envvar="NOMAFLOW_TOKEN", help="Token for a kernel on TCP.", show_default=False),
]
_TOKEN_FILE = Annotated[
    Path | None, typer.Option("--token-file", envvar="NOMAFLOW_TOKEN_FILE", help="File that contains the token.")
]
CaOption = Annotated[
    Path | None,
    typer.Option(
        "--ca", envvar="NOMAFLOW_CA", help="PEM file of the CA certificates to trust for TLS; default: the system's."
    ),
]

_LOCAL: dict[str, Any] = {"output": (_OUTPUT, Output.TEXT), "project": (_PROJECT, None)}
_REMOTE: dict[str, Any] = {
    **_LOCAL,
    "address": (_ADDRESS, None),
    "token": (_TOKEN, None),
    "token_file": (_TOKEN_FILE, None),
    "ca": (CaOption, None),
}

Command = Callable[..., None]


def local_command(function: Command) -> Command:
    """Return a command with ``--output`` and ``--project``; its parameter ``invocation`` gets their values."""
    return _with_options(function, _LOCAL)


def remote_command(function: Command) -> Command:
    """Return a command with the options of :func:`local_command` and those for reaching a kernel."""
    return _with_options(function, _REMOTE)


def _with_options(function: Command, options: dict[str, Any]) -> Command:
    signature = inspect.signature(function, eval_str=True)
    own = [one for name, one in signature.parameters.items() if name != "invocation"]
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in options.items()
    ]

    def command(**given: Any) -> None:
        shared_values = {name: given.pop(name) for name in options}
        if "address" in shared_values:
            shared_values["address"] = _addresses(shared_values["address"])
        invocation = Invocation(**shared_values)
        function(invocation=invocation, **given)

    _describe(command, function, [*own, *shared])
    return command


def _addresses(given: list[str] | None) -> tuple[str, ...]:
    """Return the given addresses, split here: typer would split the variable at spaces, which paths may contain."""
    variable = os.environ.get("NOMAFLOW_ADDRESS", "")
    return tuple(given or ([variable] if variable else []))


def _describe(command: Command, function: Command, parameters: Iterable[inspect.Parameter]) -> None:
    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters]
    command.__name__ = function.__name__
    command.__doc__ = function.__doc__
    command.__module__ = function.__module__
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # functions take attributes
