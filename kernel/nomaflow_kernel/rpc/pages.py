"""Pages of lists: bounded in entries and in bytes, and continued by a token that names the last entry."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from google.protobuf.message import Message

from nomaflow_api.bounds import LISTED_PROBLEMS, PAGE_BYTES
from nomaflow_api.v1 import job_pb2
from nomaflow_api.v1.lossless_json import loads_plain
from nomaflow_api.v1.message_codec import encode
from nomaflow_kernel.domain.errors import BadRequest
from nomaflow_kernel.history.ids import is_run_id
from nomaflow_kernel.rpc.requests import check_most
from nomaflow_project.reading.problems import Problem

M = TypeVar("M", bound=Message)
T = TypeVar("T")
_TOKEN_LENGTH = 4096


class Page(Generic[M]):
    """The entries of one page. It takes at least one, however large, and ends with the one that exceeds its bytes."""

    def __init__(self, most_bytes: int = PAGE_BYTES) -> None:
        self.entries: list[M] = []
        self._bytes, self._most_bytes = 0, most_bytes

    @property
    def full(self) -> bool:
        """True once it has reached its limit in bytes."""
        return self._bytes >= self._most_bytes

    def add(self, entry: M) -> None:
        """Add an entry."""
        self.entries.append(entry)
        self._bytes += entry.ByteSize()

    def take(self, entries: Iterable[M]) -> bool:
        """Add entries until the page is full; return whether all are in it."""
        for entry in entries:
            if self.full:
                return False
            self.add(entry)
        return True


def grouped(items: Iterable[T], size_of: Callable[[T], int]) -> Iterator[list[T]]:
    """Yield items in groups, each for one message, which ends with the item that reaches the bytes of a page."""
    group: list[T] = []
    size = 0
    for item in items:
        group.append(item)
        size += size_of(item)
        if size >= PAGE_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def page_size(asked: int, most: int) -> int:
    """Return how many entries a page may have.

    :param asked: 0 for as many as possible
    :raises BadRequest: if it is more than that
    """
    check_most(asked, most, "page_size")
    return asked or most


def page_token(key: Sequence[str]) -> str:
    """Return the token of the page after the entry with a key."""
    return base64.urlsafe_b64encode(json.dumps(list(key), separators=(",", ":")).encode()).decode()


def page_key(token: str, parts: int) -> tuple[str, ...] | None:
    """Return the key that a token was made of; None for the first page.

    :param parts: how many parts a key of this list has
    :raises BadRequest: if it is not one of our tokens
    """
    if not token:
        return None
    try:
        if len(token) > _TOKEN_LENGTH:
            raise ValueError(token[:1])
        key = loads_plain(base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True).decode())
    except ValueError:  # not ASCII, not base64, not UTF-8, or not JSON
        key = None
    if not isinstance(key, list) or len(key) != parts or not all(isinstance(part, str) for part in key):
        raise _not_ours()
    return tuple(key)


def page_start(token: str) -> str:
    """Return the run that a token's page of runs continues before: the token itself; empty for the first page.

    :raises BadRequest: if it is not one of our tokens
    """
    if token and not is_run_id(token):
        raise _not_ours()
    return token


def _not_ours() -> BadRequest:
    return BadRequest(
        "page_token does not come from a list, expected next_page_token of the page before", field="page_token"
    )


def listed_problems(problems: Sequence[Problem]) -> list[job_pb2.Problem]:
    """Return the messages of the first problems, and one that counts the others."""
    told = [encode(job_pb2.Problem, problem) for problem in problems[:LISTED_PROBLEMS]]
    more = len(problems) - len(told)
    if more > 0:
        told.append(
            job_pb2.Problem(severity="warning", code="more_problems", message=f"and {more} more; correct these first")
        )
    return told
