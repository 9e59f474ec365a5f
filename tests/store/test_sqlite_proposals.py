"""What is SQLite's own about proposals: the log's guard, and dropping beside who proposes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw
import pytest
from model_vendor import START, record

from xdr_mcp.alert import Status
from xdr_mcp.interfaces import Keep, Page
from xdr_mcp.proposal import Proposal, TriageChange
from xdr_mcp.store import open_store
from xdr_mcp.store.sqlite import proposals, retention
from xdr_mcp.store.sqlite.file import migrations, open_writer
from xdr_mcp.store.sqlite.store import SqliteStore

NOW = datetime(2026, 11, 2, tzinfo=UTC)
PROPOSAL = Proposal(
    nonce="1a2b3c4d",
    alert=record("1", START).alert,
    change=TriageChange(status=Status.NEW),
    proposed_by="assistant",
    proposed=NOW,
    changed=NOW,
)


def test_the_log_is_neither_edited_nor_cut_by_mistake(tmp_path: Path) -> None:
    connection = open_writer(tmp_path / "store.db", migrations())
    proposals.propose(connection, PROPOSAL, NOW)
    for statement in ("UPDATE audit SET body = x''", "DELETE FROM audit", "DELETE FROM audit WHERE seq = 1"):
        with pytest.raises(apsw.ConstraintError, match="the audit log is never"):
            connection.execute(statement)
    assert len(proposals.audit_after(connection, 0, 10)) == 1
    connection.close()


@pytest.mark.anyio
async def test_an_alert_that_is_proposed_for_after_it_was_chosen_stays(tmp_path: Path) -> None:
    async with open_store(tmp_path / "store.db") as store:
        assert isinstance(store, SqliteStore)
        lease = await store.acquire("poll:model", "me", timedelta(minutes=1))
        assert lease is not None
        closed = record("1", START, status=Status.RESOLVED)
        await store.save("model", Page((closed,), START), lease)
        needed = retention._Needed({"model": ()})
        chosen = await store._database.read(
            lambda connection: retention._choose(connection, Keep(alerts=0), needed, ())
        )
        assert len(chosen.alerts) == 1
        await store.propose(PROPOSAL)
        dropped = await store._database.write(lambda connection: retention._drop(connection, chosen.alerts, lease))
        assert dropped == (0, 0)
        assert await store.get("model/1") is not None
