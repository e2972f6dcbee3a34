"""The environment of workers: what an interpreter and its libraries need, and what the project asks for."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from nomaflow_api.credential_signs import names_credential, url_passwords
from nomaflow_project.reading.environment import file_variables

PASSED_ON = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_*", "TZ", "TZDIR", "TMPDIR",
    "VIRTUAL_ENV", "PYTHON*", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "*_NUM_THREADS", "SLURM_*",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    "HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY",
    "http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy",
    "OTEL_*", "NOMAFLOW_TRACE_HOOKS",
)  # fmt: skip
"""The variables of the host that every worker gets. A name with a ``*`` leaves out those named like a credential."""

_EXACT = frozenset(name for name in PASSED_ON if "*" not in name)
_FAMILY = re.compile("|".join(name.replace("*", r"\w*") for name in PASSED_ON if "*" in name))
_NO_FAMILY = re.compile(r"HEADERS|JWT")


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerVariables:
    """A host's variables, as the processes of one generation may see them.

    :param inherited: the environment of templates and workers
    :param references: the variables that ``${NAME}`` in the values of a step may stand for
    :param withheld: names of the host's own variables that workers lack, sorted
    """

    inherited: Mapping[str, str] = field(default_factory=dict, repr=False)
    references: Mapping[str, str] = field(default_factory=dict, repr=False)
    withheld: tuple[str, ...] = ()


def worker_variables(
    environ: Mapping[str, str],
    *,
    declared: Mapping[str, str],
    secret: Collection[str],
    pass_env: Collection[str],
    wanted: Collection[str] = (),
) -> WorkerVariables:
    """Return what a host's workers get of its variables.

    :param environ: those of the host's own process; they win over *declared*
    :param declared: variables of ``[host] env_file``, which the project has for its own code
    :param secret: names that connectors.toml refers to: only an exact name in *pass_env* passes them on
    :param pass_env: further names; with a ``*`` at the end, all that begin so, but none that is secret
    :param wanted: names that ``[app]`` of nomaflow.toml refers to, since every callable sees those settings
    """
    given = {**declared, **environ}
    by_name = file_variables({name for name in pass_env if not name.endswith("*")})
    beginnings = tuple(name[:-1] for name in pass_env if name.endswith("*"))
    asked = {*declared, *file_variables(set(wanted))}
    references = {
        name: value for name, value in given.items() if name in by_name or (name not in secret and not _is_ours(name))
    }
    inherited = {
        name: value
        for name, value in references.items()
        if name in by_name or name in asked or name.startswith(beginnings) or _is_passed_on(name)
    }
    return WorkerVariables(
        inherited=inherited, references=references, withheld=tuple(sorted(environ.keys() - inherited.keys()))
    )


def credentials_in(environ: Mapping[str, str]) -> set[str]:
    """Return the values of variables named like credentials, and the passwords in URLs such as a proxy's."""
    found = {value for name, value in environ.items() if names_credential(name)}
    for value in environ.values():
        if "://" in value:
            found.update(url_passwords(value))
    return found - {""}


def withheld_hint(error: BaseException, withheld: Collection[str]) -> str:
    """Return the way out if *error* is the failed look-up of a withheld variable, with a space before it; else nothing.

    :param withheld: names of the host's variables that its workers do not get
    """
    name = error.args[0] if type(error) is KeyError and len(error.args) == 1 else None
    if type(name) is not str or name not in withheld:
        return ""
    return f" (the host has {name}, and does not pass it on: list it in [host] pass_env)"


def _is_ours(name: str) -> bool:
    """Return whether a variable is for kernel and host alone: their credentials, the paths of those, and the store."""
    return name.startswith("NOMAFLOW_") and ("STORE" in name or names_credential(name.removesuffix("_FILE")))


def _is_passed_on(name: str) -> bool:
    if name in _EXACT:
        return True
    return bool(_FAMILY.fullmatch(name)) and not names_credential(name) and not _NO_FAMILY.search(name)
