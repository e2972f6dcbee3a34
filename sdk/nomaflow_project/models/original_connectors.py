"""The connectors of the original: list-valued ``queries`` and ``endpoints``, ``auth_type``. Read and converted here.

``[[connectors.X.queries]]`` gives each query a table of its own, with its text for each dialect, and says whether it
may write; ``[[connectors.X.endpoints]]`` has ``{{name}}`` in path, query, headers and body.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import urljoin

from nomaflow_project.models.connectors_file import ApiConnectorEntry, Lax, Param, Statement
from nomaflow_project.reading.keys import Entry, key, seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Query(Statement):
    """A query, sequence or lookup."""

    name: str = key(..., "Unique in the connector.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Table(Lax):
    """Up to four statements on a table, named ``NAME_get``, ``NAME_put``, ``NAME_post`` and ``NAME_delete``."""

    name: str = key(..., "Unique in the connector.")
    get: Statement | None = key(None, "Reads.")
    put: Statement | None = key(None, "Updates.")
    post: Statement | None = key(None, "Inserts.")
    delete: Statement | None = key(None, "Deletes.")


@dataclass(frozen=True, kw_only=True, slots=True)
class OriginalSql(Entry):
    """A connector of type ``sql``."""

    type: Literal["sql"] = key(..., "`sql`.")
    pool: str = key("default", "The pool.")
    pools: list[str] = key(list, "Has no effect: queries run on `pool`.")
    max_rows: int | None = key(None, "Has no effect: every row is returned.")
    queries: list[Query] = key(list, "Queries.")
    sequences: list[Query] = key(list, "Queries.")
    lookups: list[Query] = key(list, "Queries.")
    tables: list[Table] = key(list, "Tables.")

    def named(self) -> Iterator[tuple[str, Statement]]:
        """Yield each query with its name."""
        for table in self.tables:
            for kind in ("get", "put", "post", "delete"):
                statement: Statement | None = getattr(table, kind)
                if statement is not None:
                    writable = statement.writable or kind != "get"
                    yield f"{table.name}_{kind}", replace(statement, writable=writable)
        for query in (*self.queries, *self.sequences, *self.lookups):
            yield query.name, query


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint(Lax):
    """An endpoint."""

    name: str = key(..., "Unique in the connector.")
    method: str = key("GET", "HTTP method.")
    path: str = key("", "Follows `base_url`, or a whole URL.")
    headers: dict[str, str] = key(dict, "Headers.")
    query_params: dict[str, str] = key(dict, "Query parameters.")
    body: str | None = key(None, "The body.")
    content_type: str = key("application/json", "Its type.")
    response_field: str | None = key(None, "Has no effect: the whole response is returned.")
    response_map: dict[str, str] = key(dict, "Has no effect.")
    params: list[Param] = key(list, "What `{{name}}` stands for.")


@dataclass(frozen=True, kw_only=True, slots=True)
class OriginalApi(Entry):
    """A connector of type ``api``."""

    type: Literal["api"] = key(..., "`api`.")
    base_url: str = key("", "The paths of the endpoints are appended to it.")
    auth_type: Literal["none", "basic", "bearer", "api_key", "oauth2"] = key("none", "Kind of authentication.")
    auth_username: str = key("", "User.")
    auth_password: str = key("", "Password.")
    auth_token: str = key("", "Token or key.")
    auth_api_key_header: str = key("X-Api-Key", "Header of the key.")
    auth_token_endpoint: str = key("", "Where a token is fetched.")
    auth_token_field: str = key("", "Path of the token in the answer.")
    auth_token_body: str = key("", "Body of the request for a token.")
    auth_token_content_type: str = key("application/json", "Its type.")
    auth_token_headers: dict[str, str] = key(dict, "Headers of that request.")
    auth_token_ttl: int = key(3300, "Life of a token, in seconds.", ge=1)
    default_headers: dict[str, str] = key(dict, "Headers of every request.")
    timeout: float = seconds(30.0, "Limit of one request.", zero=True)
    verify_ssl: bool = key(default=True, meaning="Whether the server's certificate is checked.")
    endpoints: list[Endpoint] = key(list, "Endpoints.")


def api_table(entry: OriginalApi) -> dict[str, Any]:
    """Return a connector as the host knows it."""
    ours = ApiConnectorEntry(
        type="api",
        base_url=entry.base_url,
        headers=entry.default_headers,
        timeout_seconds=entry.timeout,
        verify=entry.verify_ssl,
    )
    endpoints = {each.name: _endpoint(each, entry) for each in entry.endpoints}
    return {**ours.to_json(), "auth": _auth(entry), "endpoints": endpoints, "follow_redirects": True}


def _auth(entry: OriginalApi) -> dict[str, Any]:
    match entry.auth_type:
        case "basic":
            return {"type": "basic", "username": entry.auth_username, "password": entry.auth_password}
        case "bearer":
            return {"type": "bearer", "token": entry.auth_token}
        case "api_key":
            return {"type": "api_key", "name": entry.auth_api_key_header, "value": entry.auth_token, "in": "header"}
        case "oauth2":
            return {
                "type": "token_request",
                "token_url": urljoin(entry.base_url.rstrip("/") + "/", entry.auth_token_endpoint.lstrip("/")),
                "username": entry.auth_username,
                "password": entry.auth_password,
                "body": entry.auth_token_body,
                "content_type": entry.auth_token_content_type,
                "headers": dict(entry.auth_token_headers),
                "field": entry.auth_token_field,
                "seconds": entry.auth_token_ttl,
            }
    return {"type": "none"}


def _endpoint(endpoint: Endpoint, entry: OriginalApi) -> dict[str, Any]:
    known: dict[str, str | None] = {"username": entry.auth_username, "password": entry.auth_password}
    if entry.auth_type in ("bearer", "api_key"):
        known["token"] = entry.auth_token
    known |= {param.name: param.default for param in endpoint.params if param.default is not None}
    sends = endpoint.body is not None and endpoint.method.upper() not in ("GET", "HEAD", "DELETE")
    refused = ""
    if sends and endpoint.content_type.lower().startswith("multipart/"):
        refused = "it sends multipart/form-data, which only connectors.api(name).request(…, files=…) can"
    return {
        "method": endpoint.method,
        "path": endpoint.path,
        "params": dict(endpoint.query_params),
        "headers": dict(endpoint.headers),
        "body": endpoint.body if sends else None,
        "content_type": endpoint.content_type,
        "values": known,
        "refused": refused,
    }
