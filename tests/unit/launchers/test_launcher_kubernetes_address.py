"""The address of an API server: which one is taken, and with whose certificate and token."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from certificate_authority import Authority
from kubernetes_server import KubernetesServer
from nomaflow_launchers.engines.engine import EngineError
from nomaflow_launchers.engines.kubernetes.api import ApiPlace, ApiServer
from nomaflow_launchers.engines.kubernetes.reading import Job


async def test_a_pod_speaks_to_its_clusters_own_server(tmp_path: Path) -> None:
    """Over TLS by the account's authority, with the token as it is now: the kubelet replaces it."""
    server = KubernetesServer()
    authority = Authority(tmp_path)
    pair = authority.issue("api", "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    server._http.socket = context.wrap_socket(server._http.socket, server_side=True)
    (tmp_path / "ca.crt").write_bytes(authority.file.read_bytes())
    (tmp_path / "namespace").write_text("default\n")
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(server.port)}
    place = ApiPlace.of("", "", environ, account=tmp_path)
    assert (place.url, place.namespace) == (f"https://127.0.0.1:{server.port}", "default")
    api = ApiServer(place)
    for token in ("first", "second"):
        (tmp_path / "token").write_text(token)
        server.token = token
        with pytest.raises(EngineError, match="not found"):
            await api.get("/apis/batch/v1/namespaces/default/jobs/none", Job)
    server.token = "third"
    with pytest.raises(EngineError, match="does not know the launcher's token"):
        await api.get("/apis/batch/v1/namespaces/default/jobs/none", Job)
    await api.aclose()
    server.close()


def test_an_address_that_would_carry_secrets_in_the_clear_is_refused() -> None:
    """A given address has to be kubectl proxy's, on this machine; without one, the launcher has to be in a pod."""
    others = ("https://127.0.0.1:6443", "https://localhost:6443", "x", "http://[::1", "unix:kube.sock")
    for url in ("http://cluster.example.org", *others):
        with pytest.raises(EngineError, match="has to be that of kubectl proxy"):
            ApiPlace.of(url, "", {})
    with pytest.raises(EngineError, match="this is no pod of Kubernetes"):
        ApiPlace.of("", "", {})
