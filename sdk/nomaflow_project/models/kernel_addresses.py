"""The addresses of a kernel as a file, a variable or a flag gives them: several, separated by commas."""

from __future__ import annotations

import os
import re
from typing import Annotated

from nomaflow_api.addresses import has_known_form, host_and_port, is_tcp, split_addresses
from nomaflow_project.reading.keys import Checked, refusal

_SOCKET_PATH_BYTES = 107
_NOT_IN_ADDRESSES = re.compile(r"[?#%,\x00-\x1f\x7f\ud800-\udfff]")
"""Characters refused in addresses: gRPC reads an address as a URI, and a comma in it as a separator."""
_UNRESOLVED = "${"


def unfit_socket(path: str) -> tuple[str, str] | None:
    """Return why a kernel cannot listen on a Unix socket, and the way out; None if it can."""
    size, wrong = len(os.fsencode(path)), _NOT_IN_ADDRESSES.search(path)
    if size > _SOCKET_PATH_BYTES:
        problem = f"the socket path {path!r} has {size} bytes, and the system allows at most {_SOCKET_PATH_BYTES}"
        return problem, "choose a shorter one"
    if wrong is not None:
        problem = f"the socket path {path!r} has {wrong[0]!r} in it, which an address cannot have"
        return problem, "choose another path"
    return None


def _unfit(address: str) -> tuple[str, str] | None:
    if is_tcp(address):
        if host_and_port(address) is not None:
            return None
        problem = f"the address {address!r} is neither unix:PATH nor tls://HOST:PORT with a port up to 65535"
        return problem, "write tls://127.0.0.1:7433, say"
    path = address.partition(":")[2]
    if path and not path.startswith("/"):
        return f"the address {address!r} has no absolute path", "write unix:/path/to/kernel.sock"
    return unfit_socket(path)


def _checked(text: str) -> str:
    if _UNRESOLVED in text:  # the variable without a value is a problem of its own
        return text
    for address in split_addresses(text):
        if told := _unfit(address):
            raise refusal("bad_address", "{problem}", problem=told[0], fix=told[1])
    return text


def _checked_tcp(text: str) -> str:
    if found := next((each for each in split_addresses(text) if not is_tcp(each)), ""):
        problem = f"there is nothing to separate on a Unix socket, and {found!r} is one"
        raise refusal("bad_address", "{problem}", problem=problem, fix="write tls://HOST:PORT")
    return _checked(text)


def _checked_dialled(text: str) -> str:
    if found := next((each for each in split_addresses(text) if not has_known_form(each)), ""):
        raise refusal("bad_address", "{problem}", problem=f"the address {found!r} has no known form", fix=ADDRESS_FORMS)
    return text


ADDRESS_FORMS = "write unix:/path/kernel.sock, host:port or tls://host:port"
"""The fix for an address of a kernel that has no known form."""

DialledAddresses = Annotated[str, Checked(_checked_dialled)]
"""Addresses of a kernel for those that connect to it."""

Addresses = Annotated[str, Checked(_checked)]
"""Unix sockets, and TCP addresses with or without their scheme; ``unix:`` alone is the project's own socket."""

TcpAddresses = Annotated[str, Checked(_checked_tcp)]
"""TCP addresses only."""
