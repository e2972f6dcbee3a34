"""The specification of a generation: everything that a template or a worker knows of its project."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct, field
from msgspec.structs import asdict

from nomaflow_host.returned_value import EXTRAS_LIMIT


class ProjectSpec(Struct, frozen=True, kw_only=True):
    """A project, as its host's main process read it. Everything in it can be written as JSON.

    :param host: the host's name
    :param root: the project's directory, absolute
    :param sys_path: directories to import modules from
    :param plugin_dirs: the directories whose modules are all offered
    :param named_callables: the references that jobs name, without jobs that another host runs
    :param job_files: the manifest's ``job_files``
    :param problems: further entries for the manifest's ``problems``
    :param settings: the settings' tree that the main process read, used if `settings_file` cannot be read
    :param settings_file: nomaflow.toml, absolute; empty for none. Read again when it changes
    :param env_files: the files of ``[host] env_file``, absolute
    :param env_file_states: the manifest's ``env_files``
    :param preload: modules to import before the plugins, so that every worker shares their memory
    :param max_extras_bytes: the limit of a result's encoded extras
    :param withheld: names of the host's variables that workers do not get, for hints
    :param version: the number of the release; None for none
    :param max_parallel: the most steps at once over all instances of the host, enforced by the kernel; None means no
      limit
    :param accept_jobs_from: the hosts whose jobs this one runs, enforced by the kernel
    :param accept_calls_from: the hosts whose jobs may call this one's, enforced by the kernel
    """

    host: str
    root: str
    sys_path: tuple[str, ...] = ()
    plugin_dirs: tuple[str, ...] = ()
    named_callables: tuple[str, ...] = ()
    job_files: tuple[Mapping[str, Any], ...] = ()
    problems: tuple[Mapping[str, Any], ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    settings_file: str = ""
    env_files: tuple[str, ...] = ()
    env_file_states: Mapping[str, str] = field(default_factory=dict)
    preload: tuple[str, ...] = ()
    max_extras_bytes: int = EXTRAS_LIMIT
    version: int | None = None
    max_parallel: int | None = None
    withheld: tuple[str, ...] = ()
    accept_jobs_from: tuple[str, ...] = ()
    accept_calls_from: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the spec as a JSON-able dict."""
        return asdict(self)

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> ProjectSpec:
        """Return the spec that `to_json` made *tree* from; keys of a newer version are ignored."""
        return msgspec.convert(tree, cls)
