"""The credentials among the values of an attempt, for masking."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nomaflow_project.reading.environment import Values, references_in, resolve_text
from nomaflow_project.reading.sources import ReferenceMissing, VariablesOnly, is_secret

if TYPE_CHECKING:
    from nomaflow_api.v1.letters import AttemptOrder
    from nomaflow_project.reading.sources import Reference


def may_refer(order: AttemptOrder) -> bool:
    """Return False if no value of an order can have a reference. Far cheaper than `references_of`."""
    text = order.kwargs_json + order.params_json
    return b"${" in text or b'"ENC:' in text


def references_of(order: AttemptOrder) -> set[Reference]:
    """Return the references in an order's values.

    Values that cannot be read have none, nor have those that did not come from the host's own files.
    """
    if not may_refer(order):
        return set()
    kwargs, params = _read(order.kwargs_json), _read(order.params_json)
    return references_in([_without(kwargs, order.literal_kwargs), _without(params, order.literal_params)])


def credentials_of(order: AttemptOrder, environ: Values, *, secret: Collection[str] = ()) -> set[str]:
    """Return the credentials in an order's values: those of its references (see `is_secret`) and its secret fields.

    A default in a reference is not a credential: it stands in the file. Unreadable values are skipped here and
    reported when the call is prepared.

    :param environ: values for the references
    :param secret: the secret fields of the callable's step types, and the secret params of the job
    """
    found: set[str] = set()
    source = VariablesOnly(environ) if isinstance(environ, Mapping) else environ
    for reference in references_of(order):
        if is_secret(reference):
            with suppress(ReferenceMissing):
                found.add(source.value_of(reference))
    if not secret:
        return found
    for body, literal in ((order.kwargs_json, order.literal_kwargs), (order.params_json, order.literal_params)):
        values = _read(body)
        for field in secret:
            for text in _texts(values.get(field)):
                with suppress(ReferenceMissing):
                    found.add(text if field in literal else resolve_text(text, environ))
    return found


def _without(values: Mapping[str, Any], literal: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in literal}


def _read(text: bytes) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _texts(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict):
        for value in tree.values():
            yield from _texts(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _texts(value)
    elif isinstance(tree, str) or (isinstance(tree, (int, float)) and not isinstance(tree, bool)):
        yield str(tree)
