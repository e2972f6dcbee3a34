"""The application, and the decorators that add a command to it with the options that many commands share."""

from __future__ import annotations

import copy
import enum
import functools
import importlib.util
import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.models import ArgumentInfo, OptionInfo

from nomaflow_cli.errors import CliError

APP = typer.Typer(
    name="nomaflow",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"auto_envvar_prefix": "NOMAFLOW", "help_option_names": ["-h", "--help"]},
)
"""The application; importing a module of commands adds them to it."""

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "kernel": ("sqlalchemy", "croniter", "alembic", "pydantic"),
    "alerts": ("apprise", "croniter", "jinja2", "pydantic", "standardwebhooks"),
    "host": ("sqlalchemy", "pydantic", "watchfiles"),
    "slurm": ("pydantic",),
    "console": ("cryptography", "jinja2", "pydantic", "starlette", "uvicorn"),
}
"""The modules that a part needs and the base installation does not have, by the name of the extra."""

_PROJECT_HELP = "Project directory; default: found from the working directory."
Directory = Annotated[Path | None, typer.Argument(metavar="DIR", help=_PROJECT_HELP, parser=Path)]
ProjectOption = Annotated[Path | None, typer.Option("--project", envvar="NOMAFLOW_PROJECT", help=_PROJECT_HELP)]
CaOption = Annotated[
    Path | None,
    typer.Option(
        "--ca", envvar="NOMAFLOW_CA", help="PEM file of the CA certificates to trust for TLS; default: the system's."
    ),
]

TrustOption = Annotated[
    Path | None,
    typer.Option(
        "--trust",
        envvar="NOMAFLOW_TRUST",
        metavar="DIRECTORY",
        help="A project that belongs to another user, whose code and settings you trust.",
        show_default=False,
    ),
]
ProfileOption = Annotated[
    str,
    typer.Option(
        "--profile",
        envvar="NOMAFLOW_PROFILE",
        help="Use the kernel and the token of this login; see nomaflow login.",
        show_default=False,
    ),
]

Command = Callable[..., int | None]


def command_group(name: str, meaning: str, *, runs_alone: bool = False) -> typer.Typer:
    """Return a new group of commands of the application.

    :param runs_alone: True if the group's name is a command, too
    """
    group = typer.Typer(no_args_is_help=not runs_alone, invoke_without_command=runs_alone)
    APP.add_typer(group, name=name, help=meaning)
    return group


def names_subcommand(context: typer.Context) -> bool:
    """Return whether a command of a group is named, and not the group's own.

    :raises CliError: if options stand before its name: they are the group's, and it would go on without them
    """
    named = context.invoked_subcommand
    for each in context.command.params if named else ():
        source = context.get_parameter_source(each.name or "")
        if source is not None and source.name == "COMMANDLINE":
            raise CliError(
                f"{each.opts[0]} stands before {named!r}, which would go on without it",
                fix=f"options of {named!r} stand behind it; see {context.command_path} {named} --help",
            )
    return named is not None


class Output(enum.StrEnum):
    """The output format."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Invocation:
    """The shared options and their values. Commands that talk to no kernel have only the first three.

    :param trust: a project that may belong to another user
    :param token: given token; None means that of a profile
    :param ca: file of the authorities that must vouch for a kernel on TCP; None means a profile's, else the system's
    :param profile: name of a login; empty means the one of the kernel that is asked
    """

    output: Annotated[Output, typer.Option("--output", "-o", envvar="NOMAFLOW_OUTPUT", help="Output format.")] = (
        Output.TEXT
    )
    project: ProjectOption = None
    trust: TrustOption = None
    address: Annotated[
        list[str] | None,
        typer.Option(
            "--address",
            show_envvar=False,
            help="Kernel address: unix:/path or tls://host:port; separate several with commas. "
            "Default: NOMAFLOW_ADDRESS, else the profile's, else the project's own kernel, else that of its host.",
        ),
    ] = None
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            envvar="NOMAFLOW_TOKEN",
            help="Token for a kernel on TCP; other users of this machine see it unless it comes from the variable.",
            show_default=False,
        ),
    ] = None
    token_file: Annotated[
        Path | None, typer.Option("--token-file", envvar="NOMAFLOW_TOKEN_FILE", help="File that contains the token.")
    ] = None
    ca: CaOption = None
    profile: ProfileOption = ""

    @property
    def as_json(self) -> bool:
        """True if a program reads the output."""
        return self.output is Output.JSON

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses of the kernel; empty means the project's."""
        # Typer would split the variable at spaces, which paths may contain.
        variable = os.environ.get("NOMAFLOW_ADDRESS", "")
        return tuple(self.address or ([variable] if variable else ()))


_OPTIONS = inspect.signature(Invocation, eval_str=True).parameters


def local_command(name: str, *, group: typer.Typer = APP, needs: Iterable[str] = ()) -> Callable[[Command], Command]:
    """Add a command with ``--output``, ``--project`` and ``--trust``; its parameter ``invocation`` gets their values.

    :param needs: the extras that must be installed
    """
    return lambda function: group.command(name)(_with_options(function, ("output", "project", "trust"), needs))


def remote_command(
    name: str = "", *, group: typer.Typer = APP, needs: Iterable[str] = ()
) -> Callable[[Command], Command]:
    """Add a command with the options of :func:`local_command` and those for reaching a kernel.

    :param name: empty for the command that a group runs if none of its own is named
    :param needs: the extras that must be installed
    """
    add = group.command(name) if name else group.callback()
    return lambda function: add(_with_options(function, tuple(_OPTIONS), needs))


def _with_options(function: Command, options: Iterable[str], needs: Iterable[str]) -> Command:
    own = inspect.signature(function, eval_str=True).parameters
    parameters = [_named(one) for name, one in own.items() if name != "invocation"]
    parameters += [_OPTIONS[name] for name in options]
    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters]

    @functools.wraps(function)
    def command(**given: Any) -> int | None:
        invocation = Invocation(**{name: given.pop(name) for name in options})
        for extra in needs:
            require_extra(extra)
        return function(invocation=invocation, **given)

    command.__annotations__ = {one.name: one.annotation for one in parameters}
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # functions take attributes
    return command


def _named(parameter: inspect.Parameter) -> inspect.Parameter:
    """Return a command's parameter; an option without a long name, or an argument without one, has its own."""
    declared = parameter.default
    if isinstance(declared, ArgumentInfo) and declared.metavar is None:
        argument = copy.copy(declared)
        argument.metavar = parameter.name.upper()
        return parameter.replace(default=argument)
    if not isinstance(declared, OptionInfo) or any(name.startswith("--") for name in declared.param_decls or ()):
        return parameter
    named = copy.copy(declared)
    named.param_decls = (f"--{parameter.name.replace('_', '-')}", *(declared.param_decls or ()))
    return parameter.replace(default=named)


def missing_modules(extra: str) -> list[str]:
    """Return the modules of an extra that are not installed."""
    return [module for module in EXTRAS[extra] if importlib.util.find_spec(module) is None]


def require_extra(extra: str) -> None:
    """Check that an extra is installed.

    :raises CliError: if a module of it is missing
    """
    missing = missing_modules(extra)
    if missing:
        raise CliError(
            f"the {extra} is not installed: {', '.join(missing)} cannot be imported",
            reason="EXTRA_MISSING",
            fix=f"pip install 'nomaflow[{extra}]'",
        )
