"""Withdrawals beside a file or a store that cannot be written, and after a restart: they hold, and are kept."""

from __future__ import annotations

import pytest
from credential_store import CI, HOST, Kernel
from test_kept_credentials import of

from nomaflow_kernel.access.principals import ANYONE
from nomaflow_kernel.access.token_orders import TokenOrder
from nomaflow_kernel.domain.errors import FileUnusable
from nomaflow_kernel.store.errors import StoreError


async def test_a_withdrawal_is_repeated_until_a_restore_cannot_undo_it(kernel: Kernel) -> None:
    """It holds at once, whatever fails; the repetition that the error asks for keeps it in the file and the store."""
    credentials, file = kernel.credentials, kernel.directory / "withdrawn"
    made, secret = await credentials.create(CI, created_by="owner")
    file.mkdir()
    with pytest.raises(FileUnusable, match=r"cannot write '.*withdrawn': is a directory; correct that, and withdraw"):
        await credentials.revoke("ci")
    assert of(credentials, secret) is ANYONE
    file.rmdir()
    assert await credentials.revoke("ci") == ([], [])
    assert made.token_id in file.read_text("ascii")
    other, lost = await credentials.create(CI, created_by="owner")
    await kernel.store.close()
    with pytest.raises(StoreError):
        await credentials.revoke(other.token_id)
    await kernel.store.open()
    assert await credentials.revoke(other.token_id) == ([], [])
    file.unlink()
    assert of(await kernel.again(), lost) is ANYONE


async def test_a_file_that_cannot_be_written_costs_nobody_the_new_secret(
    kernel: Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    """A rotation and the use of a join string have happened: the caller gets what it asked for, the log the trouble."""
    credentials = kernel.credentials
    old, before = await credentials.create(CI, created_by="owner")
    order = TokenOrder(kind="user", name="alice", joins=True, roles=("viewer",))
    join, string = await credentials.create(order, created_by="owner")
    (kernel.directory / "withdrawn").mkdir()
    _, after = await credentials.rotate("ci", overlap_seconds=0, created_by="owner")
    _, token = await credentials.exchange(await credentials.use_join(string))
    assert [str(of(credentials, each)) for each in (before, after, token)] == ["anyone", "ci", "alice"]
    for each in (old, join):
        assert (
            f"token {each.token_id}: it is withdrawn, but a restore of the history would bring it back" in caplog.text
        )
    (kernel.directory / "withdrawn").rmdir()


async def test_a_start_withdraws_nothing_again_that_the_store_holds_as_withdrawn(
    kernel: Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    """The log speaks of a restored store only after a restore."""
    credentials = kernel.credentials
    await credentials.create(TokenOrder(kind="user", name="al", roles=("admin",)), created_by="owner")
    await credentials.create(CI, created_by="owner")
    await credentials.rotate("ci", overlap_seconds=3600, created_by="owner")
    withdrawn, _ = await credentials.create(HOST, created_by="owner")
    _, join = await credentials.create(HOST, created_by="owner")
    await credentials.use_join(join)
    await credentials.revoke("al")
    await credentials.revoke(withdrawn.token_id)
    held = credentials.tokens()
    assert (await kernel.again()).tokens() == held
    assert caplog.messages == []
