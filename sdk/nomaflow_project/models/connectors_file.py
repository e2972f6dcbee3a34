"""The keys of connectors.toml."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, model_validator

from nomaflow_project.reading.keys import FORM, Checked, Entry, key, refusal, seconds
from nomaflow_project.reading.records import Record

_AUTH_KEYS = {
    "none": ((), ()),
    "basic": (("username", "password"), ()),
    "bearer": (("token",), ()),
    "api_key": (("name", "value"), ("in",)),
    "oauth2": (("token_url", "client_id", "client_secret"), ("scope", "audience")),
}
"""The keys that each kind of authentication needs, and those that it may have."""


def _pool_url(value: str) -> str:
    if not re.match(r"[A-Za-z][\w+]*://", value):
        fix = "write one such as 'sqlite:///data.db' or 'postgresql://user@host/name'"
        raise refusal("bad_url", "expected an SQLAlchemy URL", fix=fix)
    return value


def _base_url(value: str) -> str:
    if not re.match(r"https?://", value):
        raise refusal("bad_url", "expected an http:// or https:// URL", fix="write its scheme, too")
    return value


def _sql(value: str | dict[str, str]) -> str | dict[str, str]:
    if isinstance(value, dict) and "default" not in value:
        raise refusal("missing_key", "a text for each dialect needs the key 'default'", fix="add it")
    return value


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolEntry(Entry):
    """A database. Missing keys have SQLAlchemy's defaults. The last eight keys are those of the original."""

    url: Annotated[str, Checked(_pool_url)] = key(
        ..., "SQLAlchemy URL, such as `sqlite:///data.db` or `postgresql://user@host/db`."
    )
    password: str | None = key(None, "Its password; better `${NAME}` than the secret itself.")
    pool_size: int | None = key(None, "Connections kept.", ge=0)
    max_overflow: int | None = key(None, "Further connections for a short while; -1 for any number.", ge=-1)
    pool_pre_ping: bool | None = key(None, "Whether a connection is tested before it is used.")
    pool_recycle: int | None = key(None, "A connection is replaced at this age; -1 for never.", unit="seconds", ge=-1)
    echo: bool | None = key(None, "Whether each statement is logged.")
    show_parameters: bool | None = key(
        None, "Whether errors and logged statements show the values bound to them, which may be secrets."
    )
    dialect: str = key("", "Which variant of a named query runs here. Empty: the one of the URL's database.")
    schemas: dict[str, str] = key(dict, "Schemas by name, for `#SCHEMA.NAME#` in named queries.")
    dblinks: dict[str, str] = key(dict, "Suffixes of tables by name, for `#DBLINK.NAME#` in named queries.")
    trim_strings: bool = key(default=False, meaning="Whether named queries cut the blanks at the end of texts.")
    coalesce_nulls: bool = key(
        default=False, meaning="Not supported: connectors with queries that write are disabled on such a pool."
    )
    max_rows: int | None = key(None, "Has no effect: named queries return every row.")
    arraysize: int | None = key(None, "Has no effect.")
    debug_sql: bool = key(default=False, meaning="Has no effect; `echo` logs statements.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Lax(Entry):
    """A table whose unknown keys have no effect, as in the original."""

    __pydantic_config__: ClassVar[ConfigDict] = {**FORM, "extra": "ignore"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Param(Lax):
    """A parameter of a query or an endpoint."""

    name: str = key(..., "Its name.")
    default: str | None = key(None, "Its value if the call gives none.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Statement(Lax):
    """A named query, or one of the four statements on a table of the original."""

    sql: Annotated[str | dict[str, str], Checked(_sql)] = key(..., "The text, or a table of texts by dialect.")
    writable: bool = key(default=False, meaning="Whether it may write.")
    params: list[Param] = key(list, "Its parameters.")

    def text(self, dialect: str) -> str:
        """Return the text for a dialect."""
        return self.sql if isinstance(self.sql, str) else self.sql.get(dialect, self.sql["default"])


@dataclass(frozen=True, kw_only=True, slots=True)
class SqlConnectorEntry(Entry):
    """A connector of type `sql`: named queries on a pool."""

    type: Literal["sql"] = key(..., "`sql`.")
    pool: str = key(..., "The pool.")
    queries: dict[str, str] = key(dict, "SQL texts by name; parameters as `:name`.")

    def named(self) -> Iterator[tuple[str, Statement]]:
        """Yield each query with its name. They may write."""
        for name, sql in self.queries.items():
            yield name, Statement(sql=sql, writable=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class AuthEntry(Entry):
    """The authentication of requests."""

    type: Literal["none", "basic", "bearer", "api_key", "oauth2"] = key(..., "Which of the other keys are needed.")
    username: str = key("", "For `basic`.")
    password: str = key("", "For `basic`.")
    token: str = key("", "For `bearer`.")
    name: str = key("", "For `api_key`: the header or query parameter.")
    value: str = key("", "For `api_key`: the key itself.")
    in_: Literal["header", "query"] = key("header", "For `api_key`: where it goes.", alias="in")
    token_url: str = key("", "For `oauth2`, client credentials.")
    client_id: str = key("", "For `oauth2`.")
    client_secret: str = key("", "For `oauth2`.")
    scope: str = key("", "For `oauth2`, optional.")
    audience: str = key("", "For `oauth2`, optional.")

    def to_json(self, *, compact: bool = False) -> dict[str, Any]:
        """Return the table as a file has it."""
        values = Record.to_json(self, compact=compact)
        return {"in" if name == "in_" else name: value for name, value in values.items()}

    @model_validator(mode="wrap")
    @classmethod
    def _check_keys(cls, table: Any, read: Callable[[Any], AuthEntry]) -> AuthEntry:
        entry = read(table)
        needed, optional = _AUTH_KEYS[entry.type]
        given = set(table) - {"type"}
        missing = [name for name in needed if name not in given]
        if missing:
            message = "authentication of type '{kind}' needs the key '{key}'"
            raise refusal("missing_key", message, kind=entry.type, key=missing[0], fix="add it")
        unused = sorted(given - {*needed, *optional})
        if unused:
            known = ", ".join(("type", *needed, *optional))
            message, fix = (
                "authentication of type '{kind}' has no key '{key}'",
                f"remove it; the known keys are {known}",
            )
            raise refusal("unknown_key", message, kind=entry.type, key=unused[0], fix=fix)
        return entry


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointEntry(Entry):
    """One endpoint."""

    method: str = key("GET", "HTTP method.")
    path: str = key(..., "Follows `base_url`; `{name}` is filled in at the call.")
    params: dict[str, Any] = key(dict, "Query parameters of every request.")
    headers: dict[str, str] = key(dict, "Headers of every request.")


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiConnectorEntry(Entry):
    """A connector of type `api`: named endpoints of a web service."""

    type: Literal["api"] = key(..., "`api`.")
    base_url: Annotated[str, Checked(_base_url)] = key(
        ..., "`http://` or `https://`; the paths of the endpoints are appended to it."
    )
    headers: dict[str, str] = key(dict, "Headers of every request.")
    auth: AuthEntry = key(lambda: AuthEntry(type="none"), "Authentication.")
    endpoints: dict[str, EndpointEntry] = key(dict, "Endpoints by name.")
    timeout_seconds: float = seconds(30.0, "Limit of one request; 0 for none.", zero=True)
    connect_timeout_seconds: float = seconds(10.0, "Limit of the connection, at most `timeout_seconds`.", zero=True)
    retries: int = key(2, "Further tries of a request that is safe to repeat.", ge=0)
    retry_backoff_seconds: float = seconds(0.5, "Delay before the first of them; doubled each time.", zero=True)
    verify: bool = key(default=True, meaning="Whether the server's certificate is checked.")


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectorsFile(Entry):
    """connectors.toml: the databases and services of a project."""

    pools: dict[str, PoolEntry] = key(dict, "Databases by name.")
    connectors: dict[str, SqlConnectorEntry | ApiConnectorEntry] = key(dict, "SQL and API connectors by name.")
