"""Backups and restores of history files, as the kernel's tool makes them."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from nomaflow_kernel.history.access_records import AuditRecord, AuditVerdict
from nomaflow_kernel.history.records import PauseRecord
from nomaflow_kernel.history.transitions import SetPause
from nomaflow_kernel.store.errors import MaintenanceRefused
from nomaflow_kernel.store.file_lock import FileLock
from nomaflow_kernel.store.sql_store import open_store
from nomaflow_kernel.upkeep.__main__ import main
from nomaflow_kernel.upkeep.backup import back_up
from nomaflow_kernel.upkeep.inspection import inspect_store
from nomaflow_kernel.upkeep.restore import restore
from nomaflow_project.reading.store_password import STORE_VARIABLE

NOW_US = 1_800_000_000_000_000


async def history(path: Path, *, pause: str = "job-1") -> Path:
    """Make a history with one pause in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    store = open_store(f"sqlite:///{path}")
    await store.open()
    await store.apply(
        [SetPause(pause=PauseRecord(scope="job", name=pause, by="ann", why="", since_us=1, until_us=None))], at_us=1
    )
    await store.close()
    return path


async def pauses(path: Path) -> dict[str, str]:
    """Open a history as a kernel does and return who paused what."""
    store = open_store(f"sqlite:///{path}")
    await store.open()
    try:
        return {pause.name: pause.by for pause in await store.pauses()}
    finally:
        await store.close()


def epoch_of(path: Path) -> int:
    """Return the epoch of a history."""
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT epoch FROM kernel").fetchone()[0])


async def test_the_audit_is_in_a_backup_and_goes_on(tmp_path: Path) -> None:
    """A restored audit verifies as it was at the backup, and the next kernel's rows build on it."""
    row = AuditRecord(at_us=1, principal="ann", address="unix:", action="Pause", target="*", outcome="ok")

    async def appended(path: Path) -> AuditVerdict:
        store = open_store(f"sqlite:///{path}")
        await store.open()
        await store.append_audit([row] * 3)
        found = await store.verify_audit()
        await store.close()
        return found

    path = await history(tmp_path / "a" / "kernel.db")
    await appended(path)
    back_up(path, tmp_path / "backup")
    await appended(path)
    restore(tmp_path / "backup", path, force=True, pause=True, now_us=NOW_US)
    found = await appended(path)
    assert (found.rows, found.last_seq, found.bad_seq) == (6, 6, 0)


@pytest.fixture
def quiet_umask() -> Iterator[None]:
    """Give new files their full permissions."""
    before = os.umask(0)
    yield
    os.umask(before)


def refused(path: Path, into: Path, *, force: bool = False) -> str:
    """Return the reason why a file is not restored."""
    with pytest.raises(MaintenanceRefused) as refusal:
        restore(path, into, force=force, pause=True, now_us=NOW_US)
    assert refusal.value.fix
    return refusal.value.reason


@pytest.mark.usefixtures("quiet_umask")
async def test_a_backup_is_one_private_file_that_opens_as_a_store(tmp_path: Path) -> None:
    """A backup has no log beside it, nobody else can read it, and it holds the whole history."""
    source = await history(tmp_path / "kernel.db")
    done = back_up(source, tmp_path / "copy.db")
    file = Path(done["path"])
    assert file.stat().st_mode & 0o777 == 0o600
    assert done["bytes"] == file.stat().st_size
    assert not list(tmp_path.glob("*partial*"))
    assert not list(tmp_path.glob("copy.db-*"))
    assert await pauses(file) == {"job-1": "ann"}


async def test_a_backup_holds_what_is_in_the_log_only(tmp_path: Path) -> None:
    """Commits of a killed kernel are read from the write-ahead log while another connection still has it."""
    source = await history(tmp_path / "kernel.db")
    with closing(sqlite3.connect(source, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("UPDATE kernel SET epoch = 77")
        assert (tmp_path / "kernel.db-wal").stat().st_size > 0
        back_up(source, tmp_path / "copy.db")
    assert epoch_of(tmp_path / "copy.db") == 77


async def test_a_backup_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    """A missing history, a name in use, a missing folder and damage are refused by name."""
    source = await history(tmp_path / "kernel.db")
    (tmp_path / "taken").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(source.read_bytes()[:40_000] + b"\xff" * 60_000)
    for history_file, target, reason in (
        (tmp_path / "none.db", tmp_path / "a", "NO_HISTORY"),
        (source, tmp_path / "taken", "ALREADY_THERE"),
        (source, tmp_path / "link", "ALREADY_THERE"),
        (source, tmp_path / "no" / "a", "BACKUP_FAILED"),
        (damaged, tmp_path / "a", "HISTORY_DAMAGED"),
    ):
        with pytest.raises(MaintenanceRefused) as refusal:
            back_up(history_file, target)
        assert refusal.value.reason == reason
    assert refusal.value.fix.startswith("no backup was written, and earlier ones are untouched")
    assert (tmp_path / "taken").read_text() == "mine"
    assert sorted(each.name for each in tmp_path.iterdir() if "partial" in each.name or each.name == "a") == []


async def test_a_restore_refuses_before_it_touches_anything(tmp_path: Path) -> None:
    """A kernel that runs, damage, other files, a newer major version and a history that is there stop it."""
    backup = Path(back_up(await history(tmp_path / "kernel.db"), tmp_path / "good.db")["path"])
    (tmp_path / "text.db").write_text("no database " * 1000)
    (tmp_path / "empty.db").touch()
    (tmp_path / "damaged.db").write_bytes(backup.read_bytes()[:40_000] + b"\xff" * 60_000)
    (tmp_path / "newer.db").write_bytes(backup.read_bytes())
    with closing(sqlite3.connect(tmp_path / "newer.db")) as copy:
        copy.execute("UPDATE alembic_version SET version_num = '9001'")
        copy.commit()
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE runs (x)")
    target = await history(tmp_path / "there" / "kernel.db", pause="mine")
    before = target.read_bytes()
    assert refused(tmp_path / "none.db", target, force=True) == "NO_BACKUP"
    for name in ("text", "empty", "damaged", "other"):
        assert refused(tmp_path / f"{name}.db", target, force=True) == "HISTORY_DAMAGED", name
    assert refused(tmp_path / "newer.db", target, force=True) == "SCHEMA_TOO_NEW"
    assert refused(backup, target) == "ALREADY_THERE"
    lock = FileLock(str(target))
    lock.acquire()
    assert refused(backup, target, force=True) == "STORE_IN_USE"
    lock.release()
    assert target.read_bytes() == before
    assert sorted(each.name for each in target.parent.iterdir()) == ["kernel.db", "kernel.db.lock"]


async def test_a_restore_keeps_what_was_there_and_takes_over_from_it(tmp_path: Path) -> None:
    """The old history is whole beside the new one, its log included; epoch and event numbers lie above both."""
    backup = Path(back_up(await history(tmp_path / "a" / "kernel.db"), tmp_path / "backup.db")["path"])
    content = backup.read_bytes()
    target = await history(tmp_path / "b" / "kernel.db", pause="old")
    high = NOW_US + 5
    with closing(sqlite3.connect(target, isolation_level=None)) as writer:
        writer.execute("UPDATE kernel SET last_event_seq = ?, epoch = ?", (high, high))
    killed = b"the log of a kernel that was killed, too damaged to be read"
    (target.parent / "kernel.db-wal").write_bytes(killed)
    done = restore(backup, target, force=True, pause=True, now_us=NOW_US)
    kept = Path(done["replaced"])
    assert kept.parent == target.parent
    assert done["lost_events"] == 0, "the counter is far on, as after a restore; no event is lost by that"
    assert not (target.parent / "kernel.db-wal").exists(), "SQLite would apply it to the new database"
    damage = inspect_store(target, deep=True)["damage"]
    assert (epoch_of(target), damage, target.stat().st_mode & 0o777) == (high, "", 0o600)
    assert await pauses(target) == {"job-1": "ann", "": "restore"}
    assert await pauses(kept) == {"old": "ann"}
    assert backup.read_bytes() == content, "a backup is only read"


async def test_a_restore_counts_the_events_that_are_newer_than_the_backup(tmp_path: Path) -> None:
    """Events in the history count, not numbers that its counter may have skipped."""
    target = await history(tmp_path / "b" / "kernel.db")
    backup = Path(back_up(target, tmp_path / "backup.db")["path"])
    with closing(sqlite3.connect(target, isolation_level=None)) as writer:
        columns = [(row[1], row[2]) for row in writer.execute("PRAGMA table_info(events)")]
        names = ", ".join(f'"{name}"' for name, _ in columns)
        for seq in (2, 1000, 1001):  # the history has one event, of its pause, and so has the backup
            row = [seq if name == "seq" else "" if kind == "TEXT" else 0 for name, kind in columns]
            writer.execute(f"INSERT INTO events ({names}) VALUES ({', '.join('?' * len(row))})", row)
        writer.execute("UPDATE kernel SET last_event_seq = 5000")
    assert restore(backup, target, force=True, pause=False, now_us=NOW_US)["lost_events"] == 3


@pytest.mark.parametrize("until_us", [NOW_US - 1, None], ids=["until a time that is over", "until somebody resumes"])
async def test_a_pause_in_the_backup_does_not_end_that_of_the_restore(tmp_path: Path, until_us: int | None) -> None:
    """Everything was paused when the backup was made: that may have been over since, and the restore pauses."""
    path = await history(tmp_path / "kernel.db")
    store = open_store(f"sqlite:///{path}")
    await store.open()
    paused = PauseRecord(scope="all", name="", by="bob", why="the move", since_us=1, until_us=until_us)
    await store.apply([SetPause(pause=paused)], at_us=1)
    await store.close()
    backup = Path(back_up(path, tmp_path / "backup.db")["path"])
    restore(backup, path, force=True, pause=True, now_us=NOW_US)
    store = open_store(f"sqlite:///{path}")
    await store.open()
    [found] = [pause for pause in await store.pauses() if pause.scope == "all"]
    await store.close()
    assert (found.by, found.until_us) == ("restore" if until_us else "bob", None)


async def test_counters_go_on_from_the_clock_so_that_every_restore_is_later(tmp_path: Path) -> None:
    """Restored twice, each time above whatever the kernels since can have counted to."""
    backup = Path(back_up(await history(tmp_path / "kernel.db"), tmp_path / "backup.db")["path"])
    target = tmp_path / "new" / ".nomaflow" / "kernel.db"
    restore(backup, target, force=False, pause=False, now_us=NOW_US)
    assert target.parent.stat().st_mode & 0o777 == 0o700
    assert await pauses(target) == {"job-1": "ann"}, "not paused where that was asked for"
    first = epoch_of(target)
    assert first == NOW_US // 1_000_000 + 1
    other = tmp_path / "other" / "kernel.db"
    restore(backup, other, force=False, pause=False, now_us=NOW_US + 60_000_000)
    assert epoch_of(other) > first


async def test_a_log_that_somebody_still_reads_never_meets_the_new_history(tmp_path: Path) -> None:
    """A person has the old history open, so its log cannot be emptied: it goes aside with it, and both are whole."""
    backup = Path(back_up(await history(tmp_path / "a" / "kernel.db"), tmp_path / "backup.db")["path"])
    target = await history(tmp_path / "b" / "kernel.db", pause="old")
    with closing(sqlite3.connect(target, isolation_level=None)) as reader:
        reader.execute("PRAGMA journal_mode = WAL")
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM kernel").fetchall()
        with closing(sqlite3.connect(target, isolation_level=None)) as writer:
            writer.execute("UPDATE pauses SET name = 'in the log'")
        done = restore(backup, target, force=True, pause=False, now_us=NOW_US)
        assert Path(f"{done['replaced']}-wal").stat().st_size > 0
        assert not (target.parent / "kernel.db-wal").exists(), "SQLite would apply it to the new database"
    assert await pauses(target) == {"job-1": "ann"}
    assert await pauses(Path(done["replaced"])) == {"in the log": "ann"}


async def test_the_log_of_a_history_that_is_gone_never_meets_the_new_one(tmp_path: Path) -> None:
    """Somebody removed kernel.db, and left beside it the log of the kernel that was killed, which is whole."""
    backup = Path(back_up(await history(tmp_path / "a" / "kernel.db"), tmp_path / "backup.db")["path"])
    target = await history(tmp_path / "b" / "kernel.db", pause="old")
    log = target.parent / "kernel.db-wal"
    with closing(sqlite3.connect(target, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("UPDATE pauses SET name = 'in the log'")
        left = log.read_bytes()
    target.unlink()
    log.write_bytes(left)
    done = restore(backup, target, force=False, pause=False, now_us=NOW_US)
    assert (done["replaced"], done["lost_events"]) == ("", None)
    assert epoch_of(target) == NOW_US // 1_000_000
    assert await pauses(target) == {"job-1": "ann"}


async def test_a_history_behind_a_link_stays_where_it_is(tmp_path: Path) -> None:
    """The link to another disk is kept; the new history lies where the old one lay."""
    backup = Path(back_up(await history(tmp_path / "a" / "kernel.db"), tmp_path / "backup.db")["path"])
    real = await history(tmp_path / "disk" / "history.db", pause="old")
    link = tmp_path / "b" / "kernel.db"
    link.parent.mkdir()
    link.symlink_to(real)
    done = restore(backup, link, force=True, pause=False, now_us=NOW_US)
    assert (link.is_symlink(), Path(done["replaced"]).parent) == (True, real.parent)
    assert await pauses(real) == {"job-1": "ann"}


async def test_what_is_restored_belongs_to_whom_the_project_belongs(tmp_path: Path) -> None:
    """The superuser may restore for somebody whose kernel then opens every file."""
    backup = Path(back_up(await history(tmp_path / "kernel.db"), tmp_path / "backup.db")["path"])
    project = tmp_path / "project"
    project.mkdir()
    owner = 12_345 if os.geteuid() == 0 else os.geteuid()
    os.chown(project, owner, -1)
    restore(backup, project / ".nomaflow" / "kernel.db", force=False, pause=True, now_us=NOW_US)
    made = [project / ".nomaflow", *(project / ".nomaflow").iterdir()]
    assert {each.name: each.stat().st_uid for each in made} == dict.fromkeys(
        (".nomaflow", "kernel.db", "kernel.db.lock"), owner
    )


async def test_a_damaged_history_can_be_replaced_and_is_kept(tmp_path: Path) -> None:
    """Damage of what is replaced is no hindrance: it may be the very reason."""
    backup = Path(back_up(await history(tmp_path / "kernel.db"), tmp_path / "backup.db")["path"])
    target = tmp_path / "bad" / "kernel.db"
    target.parent.mkdir()
    target.write_bytes(b"\xff" * 50_000)
    done = restore(backup, target, force=True, pause=False, now_us=NOW_US)
    assert done["lost_events"] is None
    assert Path(done["replaced"]).read_bytes() == b"\xff" * 50_000
    assert await pauses(target) == {"job-1": "ann"}


async def test_the_tool_says_what_it_did_or_why_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tool prints one JSON object in any case; it refuses by name a store that is not the kernel's own file."""
    source = await history(tmp_path / ".nomaflow" / "kernel.db")
    assert source.is_file()
    project = ("--project", str(tmp_path))
    assert main(["inspect", *project]) == 0
    assert '"damage": ""' in capsys.readouterr().out
    assert main(["backup", str(tmp_path / "x"), "--held", *project]) == 1
    assert '"OTHER_STORE"' in capsys.readouterr().out
    monkeypatch.setenv(STORE_VARIABLE, "postgresql+asyncpg://a:secret@b/c")
    for work in ("backup", "restore"):
        assert main([work, str(tmp_path / "x"), *project]) == 1
        told = capsys.readouterr().out
        assert '"OTHER_STORE"' in told
        assert "secret" not in told
    monkeypatch.setenv(STORE_VARIABLE, "mysql://a:secret@b/c")
    assert main(["inspect", *project]) == 1
    assert "unknown kind of database 'mysql'" in capsys.readouterr().out
    monkeypatch.setenv(STORE_VARIABLE, "sqlite://")
    assert main(["backup", str(tmp_path / "x"), *project]) == 1
    assert '"BAD_SETTINGS"' in capsys.readouterr().out
    assert not (tmp_path / "x").exists()
    monkeypatch.delenv(STORE_VARIABLE)
    (tmp_path / "nomaflow.toml").write_text("[host\n")
    assert main(["inspect", *project]) == 1
    told = capsys.readouterr().out
    assert "nomaflow.toml:1" in told
    assert "correct nomaflow.toml, " in told
