"""Manifests that instances serve beside the catalogue of their host: those of older or newer code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from nomaflow_project.jobs.loaded import CatalogueLoad

_REMEMBERED = 64
"""Manifests of one host. An instance that serves an older one gets no work until it attaches again."""


class ServedManifest(Struct, frozen=True, kw_only=True):
    """The part of a manifest that decides what its instances may run.

    :param definitions: its valid jobs, by id and digest of the definition
    :param accepts: the hosts whose jobs it accepts
    """

    definitions: frozenset[tuple[str, str]]
    accepts: frozenset[str]

    @classmethod
    def of(cls, load: CatalogueLoad, manifest: Mapping[str, Any]) -> ServedManifest:
        """Return that part. It takes milliseconds for each thousand jobs. Last good definitions do not count."""
        return cls(
            definitions=frozenset(
                (job.job_id, job.definition.digest)
                for job in load.jobs
                if job.definition is not None and job.valid and not job.kept
            ),
            accepts=frozenset(names_in_manifest(manifest, "accept_jobs_from")),
        )


class ServedManifests:
    """The newest manifests of each host, by digest."""

    def __init__(self) -> None:
        self._of_host: dict[str, dict[str, ServedManifest]] = {}

    def keep(self, host: str, digest: str, served: ServedManifest) -> None:
        """Remember a manifest; equal parts of several take the memory of one."""
        known = self._of_host.setdefault(host, {})
        known.pop(digest, None)
        known[digest] = next((each for each in known.values() if each == served), served)
        if len(known) > _REMEMBERED:
            del known[next(iter(known))]

    def get(self, host: str, digest: str) -> ServedManifest | None:
        """Return a manifest's part; None if it is not remembered."""
        return self._of_host.get(host, {}).get(digest)

    def forget(self, host: str) -> None:
        """Forget the manifests of a host."""
        self._of_host.pop(host, None)


def names_in_manifest(manifest: Mapping[str, Any], key: str) -> list[str]:
    """Return the host names in a key of a manifest, which may hold anything."""
    said = manifest.get(key)
    return [name for name in said if isinstance(name, str)] if isinstance(said, list) else []
