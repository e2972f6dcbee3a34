"""The credentials among an attempt's values: by the names of variables, and by the fields that a step type names."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nomaflow_api.v1.letters import AttemptOrder
from nomaflow_host.injection.credentials_to_mask import credentials_of

ENVIRON = {"MY_TOKEN": "the-token", "db_password": "the-password", "REGION": "the-region", "EMPTY_KEY": ""}


def found(kwargs: Any, params: Any = None, *, secret: tuple[str, ...] = ()) -> set[str]:
    """Return the credentials of an order with these values."""
    texts = {"kwargs_json": json.dumps(kwargs).encode(), "params_json": json.dumps(params or {}).encode()}
    order = AttemptOrder(attempt_key="r/s/1", run_id="r", job_id="j", step="s", attempt=1, callable="a:b", **texts)
    return credentials_of(order, ENVIRON, secret=secret)


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({"a": "x ${MY_TOKEN} y ${REGION}"}, {"the-token"}),
        ({"a": {"b": ["${db_password}", "${MY_TOKEN:-none}"]}}, {"the-password", "the-token"}),
        ({"a": "${NO_SUCH_KEY}", "b": "${NO_SUCH_KEY:-a-default}", "c": "$${MY_TOKEN}"}, set()),
        ({"a": "${EMPTY_KEY}"}, {""}),
        ({"a": "nothing", "${MY_TOKEN}": 1}, set()),
        ("no object", set()),
    ],
)
def test_variables_that_say_so(kwargs: Any, expected: set[str]) -> None:
    """A variable's value counts wherever it is referred to; a default in the file does not."""
    assert found(kwargs) == expected


def test_params_count_too() -> None:
    """A credential that only ctx.params shows is known as well."""
    assert found({}, {"p": "${MY_TOKEN}"}) == {"the-token"}


def test_secret_fields() -> None:
    """A field that the type calls secret counts whatever is in it: nested, resolved, a number; not a missing one."""
    kwargs = {"pin": 12345678, "deep": {"in": ["${REGION}/x", True]}, "open": "shown"}
    assert found(kwargs, secret=("pin", "deep", "absent")) == {"12345678", "the-region/x"}


def test_what_cannot_be_read_is_left_to_the_preparation() -> None:
    """Broken JSON, and variables that are not set, are no error here."""
    assert found({"pin": "${NOT_SET_HERE}"}, secret=("pin",)) == set()
    order = AttemptOrder(
        attempt_key="r/s/1", run_id="r", job_id="j", step="s", attempt=1, callable="a:b", kwargs_json=b"{${"
    )
    assert credentials_of(order, ENVIRON, secret=("pin",)) == set()
