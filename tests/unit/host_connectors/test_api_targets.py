"""The addresses to which an API connector sends its credentials, whatever values a step puts into a path."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import httpx
import pytest

from nomaflow import StepFailed
from nomaflow.connectors import ApiConnector
from nomaflow_host.connectors.registry import HostConnectorRegistry
from nomaflow_project.connectors.connector_set import ConnectorSet

FILE = """
[connectors.crm]
type = "api"
base_url = "https://crm.example.com/v1"
auth = { type = "bearer", token = "T" }
endpoints.orders = { method = "DELETE", path = "/customers/{customer}/orders/{number}" }

[connectors.old]
type = "api"
base_url = "https://crm.example.com/v1"
auth_type = "none"
[[connectors.old.endpoints]]
name = "orders"
path = "/customers/{{customer}}/orders"
[[connectors.old.endpoints]]
name = "rates"
path = "https://bank.example.com/rates/{{day}}"
"""


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the URLs to which requests go, none of which leaves this process."""
    urls: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        urls.append(str(request.url))
        return httpx.Response(200)

    monkeypatch.setattr(httpx, "AsyncClient", partial(httpx.AsyncClient, transport=httpx.MockTransport(answer)))
    return urls


@pytest.fixture
def api(read: Callable[[str], ConnectorSet]) -> Callable[[str], ApiConnector]:
    """Return a function that returns a connector of the file."""
    return HostConnectorRegistry(read(FILE)).api


async def test_credentials_go_to_the_server_of_the_connector_alone(
    api: Callable[[str], ApiConnector], sent: list[str]
) -> None:
    """A whole URL, such as that of a next page, is taken if it is of that server."""
    for path in ("/ping", "ping", "https://crm.example.com:443/v1/ping"):
        await api("crm").request("GET", path)
    others = ("https://other.example.com/", "/http://crm.example.com/v1/ping", "HTTPS://crm.example.com:8443/")
    for path in others:
        with pytest.raises(StepFailed, match=r"has credentials for crm\.example\.com, and sends none to"):
            await api("crm").request("GET", path)
    assert sent == ["https://crm.example.com/v1/ping"] * 3


@pytest.mark.parametrize("value", [".", ".."])
async def test_a_value_cannot_make_an_endpoint_another_one(
    api: Callable[[str], ApiConnector], sent: list[str], value: str
) -> None:
    """Dots would take away the part before them: the customer himself would be deleted, or all of them."""
    with pytest.raises(StepFailed, match=r"'orders' of connector 'crm' cannot have '\.' or '\.\.' as a part of"):
        await api("crm").call("orders", path={"customer": 7, "number": value})
    with pytest.raises(StepFailed, match="'orders' of connector 'old' cannot have"):
        await api("old").call("orders", path={"customer": value})
    await api("crm").call("orders", path={"customer": "...", "number": "a/.."})
    await api("old").call("rates", path={"day": "1.5"})
    assert sent == ["https://crm.example.com/v1/customers/.../orders/a%2F..", "https://bank.example.com/rates/1.5"]
