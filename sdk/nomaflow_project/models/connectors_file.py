"""The keys of connectors.toml, for the documentation. The host reads, checks and resolves the file itself."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from nomaflow_project.models.entries import Entry, key, seconds

__all__ = ["ApiConnectorEntry", "AuthEntry", "ConnectorsFile", "EndpointEntry", "PoolEntry", "SqlConnectorEntry"]


class PoolEntry(Entry):
    """A database. What is not given is as SQLAlchemy has it."""

    url: str = key(..., "SQLAlchemy URL, such as `sqlite:///data.db` or `postgresql://user@host/db`.")
    password: str | None = key(None, "Its password; better `${NAME}` than the secret itself.")
    pool_size: int | None = key(None, "Connections kept.", ge=0)
    max_overflow: int | None = key(None, "Connections beyond those for a short while; -1 for any number.", ge=-1)
    pool_pre_ping: bool | None = key(None, "Whether a connection is tried before it is used.")
    pool_recycle: int | None = key(None, "A connection is replaced at this age; -1 for never.", unit="seconds", ge=-1)
    echo: bool | None = key(None, "Whether each statement is logged.")
    show_parameters: bool | None = key(
        None, "Whether errors and logged statements show the values bound to them, which may be secrets."
    )


class SqlConnectorEntry(Entry):
    """Of type `sql`: named queries on a pool."""

    type: Literal["sql"] = key(..., "`sql`.")
    pool: str = key(..., "The pool.")
    queries: dict[str, str] = key(dict, "SQL texts by name; parameters as `:name`.")


class AuthEntry(Entry):
    """How requests are authenticated."""

    type: Literal["none", "basic", "bearer", "api_key", "oauth2"] = key("none", "Which of the other keys are needed.")
    username: str = key("", "For `basic`.")
    password: str = key("", "For `basic`.")
    token: str = key("", "For `bearer`.")
    name: str = key("", "For `api_key`: the header or query parameter.")
    value: str = key("", "For `api_key`: the key itself.")
    in_: Literal["header", "query"] = Field(
        "header", alias="in", description="For `api_key`: where it goes.", json_schema_extra={"since": "0.1.0"}
    )
    token_url: str = key("", "For `oauth2`, client credentials.")
    client_id: str = key("", "For `oauth2`.")
    client_secret: str = key("", "For `oauth2`.")
    scope: str = key("", "For `oauth2`, optional.")
    audience: str = key("", "For `oauth2`, optional.")


class EndpointEntry(Entry):
    """One endpoint."""

    method: str = key("GET", "HTTP method.")
    path: str = key(..., "Follows `base_url`; `{name}` is filled in at the call.")
    params: dict[str, Any] = key(dict, "Query parameters of every request.")
    headers: dict[str, str] = key(dict, "Headers of every request.")


class ApiConnectorEntry(Entry):
    """Of type `api`: named endpoints of a web service."""

    type: Literal["api"] = key(..., "`api`.")
    base_url: str = key(..., "`http://` or `https://`; what the paths of the endpoints follow.")
    headers: dict[str, str] = key(dict, "Headers of every request.")
    auth: AuthEntry = key(AuthEntry, "Authentication.")
    endpoints: dict[str, EndpointEntry] = key(dict, "Endpoints by name.")
    timeout_seconds: float = seconds(30.0, "Limit of one request.", zero=True)
    connect_timeout_seconds: float = seconds(10.0, "Limit of the connection.", zero=True)
    retries: int = key(2, "Further tries of a request that is safe to repeat.", ge=0)
    retry_backoff_seconds: float = seconds(0.5, "Delay before the first of them; doubled each time.", zero=True)
    verify: bool = key(default=True, meaning="Whether the server's certificate is checked.")


class ConnectorsFile(Entry):
    """connectors.toml: the databases and services of a project."""

    pools: dict[str, PoolEntry] = key(dict, "Databases by name.")
    connectors: dict[str, SqlConnectorEntry | ApiConnectorEntry] = key(dict, "SQL and API connectors by name.")
