"""``nomaflow token create``, ``list``, ``rotate`` and ``revoke``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING

from nomaflow.client import ClientError, NotFound
from nomaflow_cli import pages
from nomaflow_cli.errors import CliError
from nomaflow_cli.invocation import Invocation, command_group, remote_command
from nomaflow_cli.kernel_access import talk
from nomaflow_cli.options import argument, flag, option, repeated
from nomaflow_cli.output import answer, console, print_json, print_warnings, say
from nomaflow_cli.parsers import parse_span
from nomaflow_project.reading.problems import did_you_mean
from nomaflow_telemetry.visible_text import printable

if TYPE_CHECKING:
    from nomaflow.client import KernelClient
    from nomaflow.client.values import CertificateView, IssuedToken, TokenView

_GROUP = command_group("token", "Give access to the kernel over TCP, or withdraw it.")
_NAMED = {"job": "job_id", "host": "host", "tag": "tag"}
"""The kinds of scopes that have a name, each with its parameter of `KernelClient.check_names`."""


@remote_command("create", group=_GROUP)
def create(
    *,
    invocation: Invocation,
    user: str = option("Name of a user: makes a join string for `nomaflow login`."),
    service: str = option("Name of a program: makes a token for its calls."),
    host: str = option("Name of a plugin host: makes a join string for it."),
    role: list[str] = repeated("viewer, reader, operator, launcher, admin or one of \\[access.roles]; "
                     "a scope narrows it: 'operator job:reports.*'."),
    grant: list[str] = repeated("One verb: 'trigger job:nightly', 'read tag:finance', 'cancel host:teamb'."),
    span: str = option("How long it works, for example 30d; default: 90 days, a join string 1 hour.", "--for"),
    uses: int = option("How often a join string can be used; default: once.", default=0, min=0),
    ids: list[str] = repeated("With --host: job ids that no other host can claim: 'billing-*', or one id."),
    join: bool | None = option("Make a join string, or a token; default: by kind.", "--join/--no-join", default=None),
) -> None:  # fmt: skip
    """Make a token or a join string, and print its secret once, with nothing else, on standard output."""
    given = {kind: name for kind, name in (("user", user), ("service", service), ("host", host)) if name}
    if len(given) != 1:
        raise CliError("a token is for one user, service or host", fix="give one of --user, --service and --host")
    [(kind, name)] = given.items()
    if kind != "host" and not role and not grant:
        raise CliError(f"the {kind} {name!r} would have nothing to do", fix="give it a --role, such as viewer")

    async def ask(kernel: KernelClient) -> tuple[IssuedToken, list[str]]:
        issued = await kernel.create_token(
            name,
            kind=kind,
            roles=role,
            grants=grant,
            joins=kind != "service" if join is None else join,
            lifetime=parse_span(span, option="--for"),
            uses=uses,
            ids=ids,
        )
        return issued, [problem async for problem in _idle_grants(kernel, issued.token.grants)]

    issued, warnings = talk(invocation, ask)
    print_warnings(warnings, as_json=invocation.as_json)
    _tell(invocation, issued)


async def _idle_grants(kernel: KernelClient, grants: Iterable[str]) -> AsyncIterator[str]:
    """Yield a warning for each job, host or tag of grants that does not exist: it may come later, or be misspelt."""
    for scope in dict.fromkeys(grant.partition(" ")[2] for grant in grants):
        kind, _, name = scope.partition(":")
        if kind not in _NAMED or name.endswith("*"):
            continue
        try:
            await kernel.check_names(**{_NAMED[kind]: name})
        except NotFound as error:
            yield f"a grant for {scope} gives nothing so far: {error.advice}"
        except ClientError:
            return  # who may not read it, or not any more, has the token all the same


@remote_command("list", group=_GROUP)
def list_(
    *,
    invocation: Invocation,
    name: str = option("Show only those of this user, service or host."),
    all_: bool = flag("Also show what was revoked, used up or has expired.", "--all"),
) -> None:
    """List tokens, join strings and the certificates of hosts."""

    async def ask(kernel: KernelClient) -> tuple[list[TokenView], list[CertificateView]]:
        found = await _credentials(kernel, name, all_=all_)
        if name and not any(found):
            tokens, certificates = await _credentials(kernel, "", all_=True)
            known = {each.name for each in tokens} | {each.host for each in certificates}
            if name not in known:
                raise CliError(
                    f"no token or certificate has the name {name!r}",
                    reason="CREDENTIAL_NOT_FOUND",
                    fix=did_you_mean(name, known, noun="name"),
                )
        return found

    tokens, certificates = talk(invocation, ask)
    shape = {
        "tokens": [one.to_json() for one in tokens],
        "certificates": [one.to_json() for one in certificates],
    }
    nothing = "none of them is good now; --all shows all" if name else ""
    answer(invocation, shape, lambda: pages.access.tokens_page(tokens, certificates, nothing=nothing))


async def _credentials(kernel: KernelClient, name: str, *, all_: bool) -> tuple[list[TokenView], list[CertificateView]]:
    return await kernel.list_tokens(name, include_ended=all_), await kernel.list_certificates(name, include_ended=all_)


@remote_command("rotate", group=_GROUP)
def rotate(
    *,
    invocation: Invocation,
    which: str = argument("The token's id, or the name of a user or service that has one token."),
    overlap: str = option("How long the old secret still works, for example 1h."),
) -> None:
    """Make a new secret for a token, with the same grants and lifetime, and print it."""
    span = parse_span(overlap, option="--overlap")
    _tell(invocation, talk(invocation, lambda kernel: kernel.rotate_token(which, overlap=span)))


@remote_command("revoke", group=_GROUP)
def revoke(
    *,
    invocation: Invocation,
    target: str = argument("A token's id, a certificate's serial, the name of a user or service, or host:NAME."),
) -> None:
    """Withdraw tokens and certificates at once, and all that were made with them. Open streams end within 5 s."""
    found = talk(invocation, lambda kernel: kernel.revoke(target))
    answer(invocation, found.to_json(), pages.access.withdrawn_text(target, found))


def _tell(invocation: Invocation, issued: IssuedToken) -> None:
    """Print the secret alone on standard output, so that it can be written to a file, and the rest beside it."""
    if invocation.as_json:
        print_json(issued.to_json())
        return
    console(stderr=True).print(pages.access.issued_page(issued))
    say(printable(issued.secret))
