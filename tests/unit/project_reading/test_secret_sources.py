"""Secrets in a project's files: from files, encrypted, and what stays literal. No message shows a value."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from nomaflow_project.check.project import check_project
from nomaflow_project.check.secrets import rotate, secret_uses
from nomaflow_project.connectors.reading import read_connectors
from nomaflow_project.reading.encryption import NoKeys, Undecipherable, find_keys, new_key, ring_of
from nomaflow_project.reading.environment import Unresolved, references_in, resolve_environment, resolve_text
from nomaflow_project.reading.sources import ProjectSources, Reference, ReferenceMissing, is_secret

VALUE = "hunter2-hunter2"


def _sources(root: Path, *, whole_files: bool = False, **environ: str) -> ProjectSources:
    return ProjectSources.of(root, environ=environ, key_file="keys", whole_files=whole_files)


def _file(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.fixture
def key(tmp_path: Path) -> str:
    """The key in the project's key file."""
    made = new_key()
    _file(tmp_path / "keys", f"# newest first\n{made}\n")
    return made


def test_files_and_encrypted_values_stand_for_themselves(tmp_path: Path, key: str) -> None:
    """A reference may stand inside a text; an encrypted value also as a whole."""
    _file(tmp_path / "pw", f"{VALUE}\n\n")
    encrypted = ring_of(key, "").encrypt(VALUE)
    sources = _sources(tmp_path, A="a")
    assert resolve_text("${A}:${file:pw}!", sources) == f"a:{VALUE}\n!"
    assert resolve_text(encrypted, sources) == VALUE
    assert resolve_text(f"postgresql://u:${{{encrypted}}}@h/d", sources) == f"postgresql://u:{VALUE}@h/d"
    assert resolve_text("${ENC:" + encrypted.removeprefix("ENC:") + "}", sources) == VALUE


@pytest.mark.parametrize(
    "text",
    [
        "file:pw",
        "file:///data/in.csv",
        "ENC:hunter2",
        "ENC: 5 EUR",
        "$${file:pw}",
        "$${vault:a#b}",
        "${file:}",
        "${Vault:a}",
        "${a b}",
        "${file: x}",
        " ENC:gAAAAAB",
        "file",
    ],
)
def test_what_merely_looks_like_a_reference_stays(tmp_path: Path, key: str, text: str) -> None:
    """In params and op_kwargs, URLs and words that begin like a reference are literal; ``$$`` makes one literal."""
    _file(tmp_path / "pw", VALUE)
    assert resolve_text(text, _sources(tmp_path)) == text.replace("$$", "$")


def test_a_whole_file_reference_counts_in_connectors_and_host_only(tmp_path: Path, key: str) -> None:
    """``file:PATH`` as a whole, but no URL."""
    _file(tmp_path / "pw", VALUE)
    sources = _sources(tmp_path, whole_files=True)
    assert resolve_text("file:pw", sources) == VALUE
    assert resolve_text("file:///pw", sources) == "file:///pw"
    assert references_in(["file:pw"]) == set()
    assert references_in(["file:pw"], files=True) == {Reference("file", "pw")}


def test_a_default_belongs_to_variables(tmp_path: Path) -> None:
    """``${file:-x}`` is the variable ``file`` with a default."""
    assert resolve_text("${file:-x}", _sources(tmp_path)) == "x"


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o620, 0o666, 0o660, 0o601 | 0o004])
def test_a_secret_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    """Its mode and the way out are told, and no value."""
    _file(tmp_path / "pw", VALUE, mode)
    with pytest.raises(ReferenceMissing, match=f"'pw' cannot be read.*mode is {mode:04o}.*chmod 600") as caught:
        resolve_text("${file:pw}", _sources(tmp_path), path="pools.a.password")
    assert caught.value.path == "pools.a.password"
    assert VALUE not in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users, which only root may do")
def test_a_group_may_read_a_file_of_root_and_no_file_may_be_another_users(tmp_path: Path) -> None:
    """0640 root:team is how an administrator gives a secret to a service; a file of a stranger is a trap."""
    _file(tmp_path / "pw", VALUE, 0o640)
    os.chown(tmp_path / "pw", 0, 4242)
    assert resolve_text("${file:pw}", _sources(tmp_path)) == VALUE
    stranger = _file(tmp_path / "theirs", VALUE)
    os.chown(stranger, 4242, 0)
    (tmp_path / "link").symlink_to(stranger)
    for name in ("theirs", "link"):
        with pytest.raises(ReferenceMissing, match="belongs to another user"):
            resolve_text(f"${{file:{name}}}", _sources(tmp_path))


@pytest.mark.skipif(os.geteuid() != 0, reason="only a process of root can be led to a file that others may not read")
def test_a_folder_of_another_user_cannot_lead_root_to_its_files(tmp_path: Path) -> None:
    """A step under ``run_as`` that owns a folder could put a link there to what only root may read."""
    (tmp_path / "theirs").mkdir()
    _file(tmp_path / "theirs" / "pw", VALUE)
    (tmp_path / "link").symlink_to(tmp_path / "theirs" / "pw")
    assert resolve_text("${file:theirs/pw}", _sources(tmp_path)) == VALUE
    os.chown(tmp_path / "theirs", 4242, 4242)
    for name in ("theirs/pw", "link"):
        with pytest.raises(ReferenceMissing, match="others may change the folder"):
            resolve_text(f"${{file:{name}}}", _sources(tmp_path))
    os.chown(tmp_path, 4242, 4242)  # who owns the project is trusted with its files anyway
    assert resolve_text("${file:theirs/pw}", _sources(tmp_path)) == VALUE


def test_a_secret_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """The file is named if it is missing, a folder, a pipe, too large or not text, or if its name has a NUL."""
    (tmp_path / "binary").write_bytes(b"\xff")
    _file(tmp_path / "large", "x" * 70_000)
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "binary").chmod(0o600)
    for name, words in {
        "none": "no secret file 'none'",
        ".": "is a directory",
        "pipe": "not a regular file",
        "large": "larger than",
        "binary": "not UTF-8",
        "a\0b": "not a path",
    }.items():
        with pytest.raises(ReferenceMissing, match=words):
            resolve_text(f"${{file:{name}}}", _sources(tmp_path))


def test_wrong_malformed_and_missing_keys_are_told_apart(tmp_path: Path, key: str) -> None:
    """The ids of the tried keys are told; neither the value, nor a key, nor the encrypted text."""
    encrypted = ring_of(new_key(), "").encrypt(VALUE)
    damaged = ring_of(key, "").encrypt(VALUE)[:-12] + "AAAAAAAAAA=="
    for text, words in {
        encrypted: "decrypted with the key of",
        damaged: "decrypted",
        "ENC:gAAAA*not-a-token": "malformed",
    }.items():
        with pytest.raises(ReferenceMissing, match=words) as caught:
            resolve_text(f"${{{text}}}", _sources(tmp_path), path="p")
        assert all(secret not in str(caught.value) for secret in (VALUE, key, text[10:]))
    (tmp_path / "keys").unlink()
    with pytest.raises(ReferenceMissing, match="cannot be read: no such file"):
        resolve_text(encrypted, _sources(tmp_path))
    with pytest.raises(NoKeys, match=r"no key for encrypted values .*is given.*nomaflow secret keygen"):
        find_keys(tmp_path, "", {})


def test_where_keys_come_from(tmp_path: Path) -> None:
    """The variable, its file, [host], systemd's credential: the first that is given is used, alone."""
    made = [new_key() for _ in range(5)]
    for index, name in enumerate(("of_variable", "of_host", "nomaflow-secret-key")):
        _file(tmp_path / name, made[index])
    environ = {
        "NOMAFLOW_SECRET_KEY": f"{made[3]}, {made[4]}",
        "NOMAFLOW_SECRET_KEY_FILE": str(tmp_path / "of_variable"),
        "CREDENTIALS_DIRECTORY": str(tmp_path),
    }
    expected = [
        ("NOMAFLOW_SECRET_KEY", made[3:5], "NOMAFLOW_SECRET_KEY"),
        ("NOMAFLOW_SECRET_KEY_FILE", made[:1], "NOMAFLOW_SECRET_KEY_FILE"),
        ("", made[1:2], "[host] secret_key_file"),
        ("", made[2:3], "systemd's credential"),
    ]
    for step, (variable, keys, source) in enumerate(expected):
        ring = find_keys(tmp_path, "of_host" if step < 3 else "", environ)
        assert ring.ids == ring_of("\n".join(keys), "").ids
        assert ring.source.startswith(source)
        environ.pop(variable, None)
    for text, words in {"": "holds no key", "hunter2": "key 1 of x is malformed"}.items():
        with pytest.raises(NoKeys, match=words) as caught:
            ring_of(text, "x")
        assert "hunter2" not in str(caught.value)
    (tmp_path / "of_host").chmod(0o644)
    with pytest.raises(NoKeys, match="others may read"):
        find_keys(tmp_path, "of_host", {})


def test_a_secret_never_stands_where_it_would_be_published(tmp_path: Path, key: str) -> None:
    """A description is shown to everybody who may read the job: it is not resolved, and the problem says so."""
    encrypted = ring_of(key, "").encrypt(VALUE)
    tree = {"description": encrypted, "tags": ["${file:keys}", "${vault:a}"], "params": {"p": encrypted}}
    resolved = resolve_environment(tree, {})
    assert resolved == tree
    assert isinstance(resolved["description"], Unresolved)
    assert "not kept secret" in resolved["tags"][0].missing.problem
    assert type(resolved["tags"][1]) is str


def test_connectors_take_every_source_and_know_what_to_mask(tmp_path: Path, key: str) -> None:
    """Credentials wherever they stand are among the secrets; an open file may hold references to them."""
    encrypted = ring_of(key, "").encrypt(VALUE)
    _file(tmp_path / "pw", "from-a-file\n")
    file = _file(
        tmp_path / "connectors.toml",
        f"""
[pools.a]
url = "postgresql://u:${{file:pw}}@h/d"
[pools.b]
url = "postgresql://u@h/d"
password = "{encrypted}"
[pools.c]
url = "postgresql://u@h/d"
password = "ENC:gAAAAA"
[connectors.own]
type = "thing"
apikey = "file:pw"
plain = "${{PLAIN}}"
named = "${{MY_TOKEN}}"
root = "file:///data"
""",
        0o644,
    )
    found = read_connectors(file, _sources(tmp_path, whole_files=True, PLAIN="x" * 8, MY_TOKEN="y" * 8))
    assert found.pools["a"]["url"] == "postgresql://u:from-a-file@h/d"
    assert found.pools["b"]["password"] == VALUE
    assert found.connectors["own"] == {
        "type": "thing", "apikey": "from-a-file", "plain": "x" * 8, "named": "y" * 8, "root": "file:///data",
    }  # fmt: skip
    assert set(found.told_secrets) == {VALUE, "from-a-file", "y" * 8}
    assert set(found.unusable) == {"pools.c"}
    assert "malformed" in found.unusable["pools.c"]
    assert VALUE not in repr(found)


def test_check_sees_secrets_without_showing_them(tmp_path: Path, key: str) -> None:
    """An open file is an error; what is missing here may be there where the host runs, and is a warning."""
    _file(tmp_path / "open", VALUE, 0o644)
    _file(tmp_path / "nomaflow.toml", '[host]\nsecret_key_file = "keys"\n')
    _file(
        tmp_path / "connectors.toml",
        '[pools.a]\nurl = "sqlite:///x"\npassword = "file:open"\n'
        '[pools.b]\nurl = "sqlite:///x"\npassword = "file:no"\n',
    )
    other = ring_of(new_key(), "").encrypt(VALUE)
    _file(
        tmp_path / "jobs.toml",
        f'[[jobs]]\nid = "j"\nparams = {{ p = "{other}" }}\nsteps = [{{ callable = "os:getcwd" }}]\n',
    )
    problems = check_project(tmp_path, environ={}).all_problems()
    assert [(each.code, each.path, each.is_error) for each in problems] == [
        ("unreadable_secret", "pools.a.password", True),
        ("missing_secret", "pools.b.password", False),
        ("unreadable_secret", "jobs[0].params.p", False),
    ]
    assert VALUE not in str(problems)


def test_a_literal_value_of_a_secret_param_disables_the_job(tmp_path: Path) -> None:
    """Its definition is shown and stored as it is, so a secret must not stand there; a reference may."""
    _file(
        tmp_path / "jobs.toml",
        """
[[jobs]]
id = "j"
secret_params = ["key", "pin"]
params = { key = "literal", pin = "${PIN}", other = "seen" }
presets = [{ name = "p", params = { pin = 1234 } }]
steps = [{ name = "s", callable = "os:getcwd", op_kwargs = { key = "ENC:gAAAAx" } }]
""",
    )
    problems = check_project(tmp_path, environ={}).all_problems()
    assert [(each.code, each.path) for each in problems if each.is_error] == [
        ("literal_secret", "jobs[0].params.key"),
        ("literal_secret", "jobs[0].presets[0].params.pin"),
    ]


def test_list_names_every_reference_with_its_source_and_state(tmp_path: Path, key: str) -> None:
    """Variables that are named like credentials, files, encrypted values and those of plugins, each with its line."""
    encrypted = ring_of(key, "").encrypt(VALUE)
    _file(
        tmp_path / "nomaflow.toml",
        '[host]\nsecret_key_file = "keys"\nkernel = "${KERNEL}"\n[alerts]\nheartbeat_url = "file:pw"\n',
    )
    _file(tmp_path / "connectors.toml", '[pools.a]\nurl = "${DB:-x}${NO:-}"\npassword = "file:pw"\n')
    _file(
        tmp_path / "jobs.toml",
        f"""
[[jobs]]
id = "j"
params = {{ a = "{encrypted}", b = "${{vault:kv/x#y}}", c = "${{PLAIN}}", d = "${{MY_TOKEN}}", e = "file:pw" }}
steps = [{{ callable = "os:getcwd" }}]
""",
    )
    uses = secret_uses(tmp_path, {"DB": "sqlite://", "KERNEL": "h:1"})  # NO has a default
    told = [(each.file, each.line, each.path, each.source, each.state) for each in uses]
    assert told == [
        ("nomaflow.toml", 3, "host.kernel", "variable KERNEL", "ok"),
        ("nomaflow.toml", 5, "alerts.heartbeat_url", "file pw", "unreadable"),
        ("connectors.toml", 2, "pools.a.url", "variable DB", "ok"),
        ("connectors.toml", 2, "pools.a.url", "variable NO", "ok"),
        ("connectors.toml", 3, "pools.a.password", "file pw", "unreadable"),
        ("jobs.toml", 4, "jobs[0].params.a", "encrypted", "ok"),
        ("jobs.toml", 4, "jobs[0].params.b", "plugin vault", "at each attempt"),
        ("jobs.toml", 4, "jobs[0].params.d", "variable MY_TOKEN", "unreadable"),
    ]
    assert uses[5].key_id == ring_of(key, "").ids[0]
    assert VALUE not in str(uses)


def test_rotate_encrypts_again_and_keeps_the_rest_of_a_file(tmp_path: Path, key: str) -> None:
    """Comments, order and mode stay; a value that cannot be decrypted leaves every file as it was."""
    encrypted = ring_of(key, "").encrypt(VALUE)
    connectors = _file(tmp_path / "connectors.toml", f'# ours\n[pools.a]\npassword = "{encrypted}" # here\n', 0o640)
    jobs = _file(tmp_path / "jobs.toml", f'[[jobs]]\nid = "j"\nparams = {{ a = "x${{{encrypted}}}" }}\n')
    newer = new_key()
    _file(tmp_path / "nomaflow.toml", '[host]\nsecret_key_file = "keys"\n')
    _file(tmp_path / "keys", f"{newer}\n{key}\n")
    other = ring_of(new_key(), "").encrypt(VALUE)
    jobs.write_text(jobs.read_text() + f'description = "{other}"\n')
    before = (connectors.read_bytes(), jobs.read_bytes())
    with pytest.raises(Undecipherable, match=r"jobs\.toml:4: .*nothing was changed"):
        rotate(tmp_path, {})
    assert (connectors.read_bytes(), jobs.read_bytes()) == before
    jobs.write_text(jobs.read_text().replace(other, "x"))
    assert rotate(tmp_path, {}).changed == {"connectors.toml": 1, "jobs.toml": 1}
    assert connectors.read_text().startswith("# ours\n[pools.a]\n")
    assert connectors.read_text().endswith(" # here\n")
    assert stat.S_IMODE(connectors.stat().st_mode) == 0o640
    _file(tmp_path / "keys", f"{newer}\n")
    done = rotate(tmp_path, {})
    assert (done.changed, done.unchanged) == ({}, 2)


def test_what_counts_as_a_secret() -> None:
    """All but variables whose names do not say so."""
    assert not is_secret(Reference("", "PLAIN"))
    assert is_secret(Reference("", "DB_PASSWORD"))
    assert is_secret(Reference("file", "x"))
    assert is_secret(Reference("vault", "x"))
