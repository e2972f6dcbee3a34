"""``nomaflow pki``: the kernel's own authority."""

from __future__ import annotations

from pathlib import Path

from nomaflow.client.values import AuthorityView
from nomaflow_cli import pages
from nomaflow_cli.errors import CliError
from nomaflow_cli.invocation import Invocation, command_group, remote_command
from nomaflow_cli.kernel_access import talk
from nomaflow_cli.options import argument
from nomaflow_cli.output import answer

_GROUP = command_group("pki", "Show, renew, replace or export the kernel's authority.")


@remote_command("show", group=_GROUP)
def show(*, invocation: Invocation) -> None:
    """Show the authority that vouches for the kernel, and the certificate that clients see."""
    _tell(invocation, talk(invocation, lambda kernel: kernel.get_authority()))


@remote_command("renew", group=_GROUP)
def renew(*, invocation: Invocation) -> None:
    """Renew the kernel's certificate now. The kernel renews it by itself after two thirds of its time."""
    _tell(invocation, talk(invocation, lambda kernel: kernel.renew_authority()))


@remote_command("replace", group=_GROUP)
def replace(*, invocation: Invocation) -> None:
    """Make a new authority. Hosts keep running: the old one vouches for the new one until they know it."""
    _tell(invocation, talk(invocation, lambda kernel: kernel.renew_authority(replace=True)))


@remote_command("export", group=_GROUP)
def export(
    *,
    invocation: Invocation,
    file: Path | None = argument("Where to write; default: to standard output.", default=None),
) -> None:
    """Write the authorities that vouch for the kernel, PEM, for programs that call it without `nomaflow login`."""
    from nomaflow_project.check.secrets import replace_file

    found = talk(invocation, lambda kernel: kernel.get_authority())
    if file is None:
        answer(invocation, {"authorities_pem": found.authorities_pem}, found.authorities_pem.rstrip("\n"))
        return
    try:
        pem = found.authorities_pem.encode("ascii")
        if file.exists() and not file.is_file():  # a pipe, for example
            file.write_bytes(pem)
        else:
            replace_file(file, pem, new_mode=0o644)
    except OSError as error:
        raise CliError(
            f"cannot write {str(file)!r}: {(error.strerror or 'an error').lower()}",
            fix="name a file in a directory that you may write",
        ) from None
    answer(invocation, {"file": str(file)}, f"wrote the authorities to {file}")


def _tell(invocation: Invocation, found: AuthorityView) -> None:
    answer(invocation, found.to_json(), lambda: pages.access.authority_page(found))
