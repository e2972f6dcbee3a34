"""The credentials among the values of an attempt, for masking."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from nomaflow_project.reading.credentials import names_credential
from nomaflow_project.reading.environment import EnvironmentMissing, names_in, resolve_text

if TYPE_CHECKING:
    from nomaflow_api.v1.letters import AttemptOrder

__all__ = ["credentials_of"]


def credentials_of(order: AttemptOrder, environ: Mapping[str, str], *, secret: Collection[str] = ()) -> set[str]:
    """Return the credentials in an order's values: variables named like credentials, and its secret fields.

    A default in a reference is not a credential: it stands in the file. Unreadable values are skipped here and
    reported when the call is prepared.

    :param environ: variables for the references
    :param secret: the secret fields of the callable's step types
    """
    found: set[str] = set()
    if b"${" in order.kwargs_json or b"${" in order.params_json:
        kwargs, params = _read(order.kwargs_json), _read(order.params_json)
        for name in names_in([_without(kwargs, order.literal_kwargs), _without(params, order.literal_params)]):
            if names_credential(name.removesuffix("_FILE")):
                found.update(_resolved(f"${{{name}}}", environ))
    values = _read(order.kwargs_json) if secret else {}
    for field in secret:
        texts = _texts(values.get(field))
        if field in order.literal_kwargs:
            found.update(texts)
        else:
            found.update(value for text in texts for value in _resolved(text, environ))
    return found


def _without(values: Mapping[str, Any], literal: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in literal}


def _read(text: bytes) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _resolved(text: str, environ: Mapping[str, str]) -> Iterator[str]:
    try:
        yield resolve_text(text, environ)
    except EnvironmentMissing:
        return


def _texts(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict):
        for value in tree.values():
            yield from _texts(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _texts(value)
    elif isinstance(tree, str) or (isinstance(tree, (int, float)) and not isinstance(tree, bool)):
        yield str(tree)
