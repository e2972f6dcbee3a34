"""Hosts' manifests and the job ids they own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, exists, select

from nomaflow_kernel.history.lookups import ForgottenHost, HostManifest
from nomaflow_kernel.history.transitions import Notice
from nomaflow_kernel.store.operations.apply import apply_transitions
from nomaflow_kernel.store.rows import dump_json
from nomaflow_kernel.store.schema import host_digests, host_manifests, job_owners, schedules
from nomaflow_kernel.store.session import WriteSession
from nomaflow_kernel.store.statements import insert

_TOLD_JOBS = 50
_SHOW_DIGEST = insert(host_digests, host_digests.columns.keys())
_CLAIM_JOB = insert(job_owners, job_owners.columns.keys())
_REPLACE_MANIFEST = insert(host_manifests, host_manifests.columns.keys(), replaces=True)


def introduce_manifest(
    connection: Connection,
    host: str,
    *,
    digest: str,
    manifest: Mapping[str, Any],
    job_ids: Sequence[str],
    explicit: bool,
    at_us: int,
) -> bool:
    """Keep a manifest as the host's catalogue if its digest is new or ``explicit`` is set.

    Return whether it is the catalogue now. Only a manifest that becomes the catalogue claims job ids.
    """
    is_new = _SHOW_DIGEST.execute(connection, [(host, digest, at_us)]) == 1
    if not (is_new or explicit):
        current = select(host_manifests.c.digest).where(host_manifests.c.host == host)
        return connection.execute(current).scalar_one_or_none() == digest
    _REPLACE_MANIFEST.execute(connection, [(host, digest, dump_json(dict(manifest)), at_us)])
    _CLAIM_JOB.execute(connection, [(job_id, host) for job_id in dict.fromkeys(job_ids)])
    return True


def knows_digest(connection: Connection, host: str, digest: str) -> bool:
    """Return whether the host has shown that manifest before."""
    shown = exists().where(host_digests.c.host == host, host_digests.c.digest == digest)
    return bool(connection.execute(select(shown)).scalar_one())


def manifests(connection: Connection) -> list[HostManifest]:
    """Return the current manifest of every host, by name."""
    owned: dict[str, set[str]] = {}
    for job_id, host in connection.execute(select(job_owners.c.job_id, job_owners.c.host)):
        owned.setdefault(host, set()).add(job_id)
    return [
        HostManifest(
            host=row.host,
            digest=row.digest,
            text=row.manifest,
            introduced_at_us=row.introduced_at_us,
            owned_job_ids=frozenset(owned.get(row.host, ())),
        )
        for row in connection.execute(select(host_manifests).order_by(host_manifests.c.host))
    ]


def forget_host(session: WriteSession, host: str, *, at_us: int, by: str) -> ForgottenHost:
    """Remove a host's manifests, its claims and the next fires of its jobs, with an event in the same transaction."""
    connection = session.connection
    of_host = select(job_owners.c.job_id).where(job_owners.c.host == host)
    owned = list(connection.execute(of_host.order_by(job_owners.c.job_id)).scalars())
    connection.execute(delete(schedules).where(schedules.c.job_id.in_(of_host)))
    for table in (job_owners, host_manifests, host_digests):
        connection.execute(delete(table).where(table.c.host == host))
    if not host:
        return ForgottenHost(job_ids=owned)
    data = {"released_job_ids": owned[:_TOLD_JOBS], "released": len(owned)}
    notice = Notice(kind="host.forgotten", host=host, by=by, data=data)
    return ForgottenHost(job_ids=owned, events=apply_transitions(session, [notice], at_us=at_us).events)
