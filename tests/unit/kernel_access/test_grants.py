"""Grants: their grammar, what they cover, and which contains which."""

from __future__ import annotations

import pytest

from nomaflow_kernel.access.grants import Grant, Scope, Target, Verb, grants_of_role
from nomaflow_project.models.roles import BUILT_IN_ROLES, VERBS, GrantError

TARGET = Target(job_id="reports.daily", host="teama", tags=("finance", "Ünï code"))


@pytest.mark.parametrize(
    ("scope", "covers"),
    [
        ("*", True),
        ("job:reports.daily", True),
        ("job:reports.*", True),
        ("job:r*", True),
        ("host:teama", True),
        ("tag:finance", True),
        ("tag:Ünï code", True),
        ("job:reports.dail", False),
        ("job:reports.daily2", False),
        ("job:Reports.daily", False),
        ("job:reports.daily.*", False),
        ("host:team", False),
        ("tag:fin", False),
        ("tag:Finance", False),
    ],
)
def test_a_scope_covers_what_it_names(scope: str, covers: bool) -> None:  # a parameter of the test
    """Case counts, and nothing but a star at the end stands for more."""
    assert Scope.parse(scope).covers(TARGET) is covers
    assert str(Scope.parse(scope)) == scope


@pytest.mark.parametrize(
    "text",
    [
        "", "read", "read ", "read everything", "fly *", "READ *", "read job:", "read job:*", "read job:a/../b",
        "read job:a b", "read job:a**", "read job:*a", "read job:a\u200b", "read job:é", "read host:A", "read host:*",
        "read host:", "read tag:", "read tag:a\nadmin *", "read tag:" + "x" * 129, "read run:x", "read *, admin *",
        "read job:" + "a" * 129,
    ],
)  # fmt: skip
def test_what_is_no_grant_is_refused(text: str) -> None:
    """The text says what was expected."""
    with pytest.raises(GrantError, match="expected"):
        Grant.parse(text)


def test_one_scope_contains_another() -> None:
    """An administrator may give only what lies within his own grants."""
    wide = {
        "*": ("*",),
        "job:a*": ("job:a*", "job:a.b*", "job:a", "job:abc"),
        "job:a": ("job:a",),
        "host:h": ("host:h",),
        "tag:t": ("tag:t",),
    }
    for scope, inner in wide.items():
        for other in {each for found in wide.values() for each in found} | {"job:b", "job:b*", "host:a", "tag:a"}:
            assert Scope.parse(scope).contains(Scope.parse(other)) is (scope == "*" or other in inner), (scope, other)


def test_the_names_of_the_configuration_are_those_of_the_kernel() -> None:
    """Verbs and roles are declared once."""
    assert tuple(Verb) == VERBS
    for role, verbs in BUILT_IN_ROLES.items():
        assert [grant.verb for grant in grants_of_role(f"{role} tag:x")] == list(verbs)
        assert {str(grant.scope) for grant in grants_of_role(role)} == {"*"}
