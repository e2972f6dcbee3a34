"""A PgBouncer between the kernel and its server, which keeps the settings of sessions back."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator

import pytest
from store_places import PostgresPlace

from machine_parts import need
from nomaflow_kernel.store.errors import StoreError, StoreUnavailable, UnsupportedStore
from nomaflow_kernel.store.sql_store import open_store
from postgres_server import SUPERUSER, PostgresServer
from waiting import eventually

pytestmark = pytest.mark.postgres

PORT = 6432
SETTINGS = (
    "lock_timeout, statement_timeout, idle_in_transaction_session_timeout, default_transaction_isolation,"
    " synchronous_commit, enable_seqscan, enable_hashjoin, enable_mergejoin, jit, plan_cache_mode"
)


@contextlib.contextmanager
def pooler(server: PostgresServer, *lines: str) -> Iterator[None]:
    """Run a PgBouncer with some settings, on a socket beside the server's."""
    file = server.folder / "pgbouncer.ini"
    users = server.folder / "users"
    users.write_text(f'"{SUPERUSER}" ""\n')
    own = (f"unix_socket_dir = {server.folder}", f"listen_port = {PORT}", "auth_type = trust", f"auth_file = {users}")
    file.write_text("\n".join(("[databases]", f"* = host={server.folder}", "[pgbouncer]", *own, *lines)))
    with subprocess.Popen(
        [*server.become_user(), "/usr/sbin/pgbouncer", "--quiet", str(file)], stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield
        finally:
            process.terminate()


@pytest.mark.parametrize(
    ("lines", "error", "why"),
    [
        ((), StoreUnavailable, "unsupported startup parameter: .*; connect to the server itself: .* PgBouncer"),
        (
            ("pool_mode = transaction", f"ignore_startup_parameters = {SETTINGS}"),
            UnsupportedStore,
            "lock_timeout = 0, not 5000: a pooler such as PgBouncer .*; expected the address of the server itself",
        ),
    ],
    ids=["refuses", "ignores"],
)
async def test_a_pooler_that_keeps_settings_back_is_refused(
    postgres_place: PostgresPlace, lines: tuple[str, ...], error: type[StoreError], why: str
) -> None:
    """Without them a commit need not be durable, and a lock is waited for without end; nothing is written."""
    need("pgbouncer", "setpriv")
    server = postgres_place.server
    with pooler(server, *lines):
        await eventually(lambda: _listens(server))
        with pytest.raises(error, match=why):
            await open_store(f"{postgres_place.url}&port={PORT}").open()
    assert await postgres_place.sql("SELECT 1 FROM pg_tables WHERE schemaname = 'public'") == []


async def _listens(server: PostgresServer) -> bool:
    with socket.socket(socket.AF_UNIX) as link:
        return link.connect_ex(str(server.folder / f".s.PGSQL.{PORT}")) == 0
