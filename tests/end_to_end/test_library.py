"""The examples of docs/library.md run as they stand."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import pytest
from model_vendor import START, record
from program import TOKEN, simulated

from xdr_mcp.interfaces import Page
from xdr_mcp.lease import TTL
from xdr_mcp.sources.xdr import XdrClient, XdrOptions
from xdr_mcp.store import open_store

pytestmark = pytest.mark.anyio

DOCUMENT = Path(__file__).parents[2] / "docs/library.md"
CLIENT, CALLBACKS, STORE = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)


def run(source: str) -> dict[str, Any]:
    """The example's names, after it was executed without its last line, which starts it."""
    names: dict[str, Any] = {}
    exec(compile(source, str(DOCUMENT), "exec"), names)  # noqa: S102 (our own document)
    return names


async def test_the_clients_example_reads_alerts_and_their_events(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with simulated("--alerts", "30", "--speed", "0.01", folder=tmp_path) as url:
        main: Callable[[str, str], Awaitable[None]] = run(CLIENT.partition("\nanyio.run(")[0])["main"]
        await main(url, TOKEN)
    printed = capsys.readouterr().out
    assert re.search(r"\n  events: [1-3]\n", printed)
    assert int(printed.splitlines()[-1].split()[0]) >= 30


async def test_every_callback_is_called_and_one_that_fails_stops_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert "@client.on_new_alerts" in CALLBACKS
    called: list[str] = []
    done = anyio.Event()
    with simulated("--alerts", "30", folder=tmp_path) as url:
        async with XdrClient(XdrOptions(base_url=url, auth_token=TOKEN)) as client:

            @client.on_new_alerts
            def fails(_: object) -> None:
                raise RuntimeError("a callback of somebody's")

            @client.on_new_alerts
            def plain(alerts: Any) -> None:
                called.extend(alert["id"] for alert in alerts)

            @client.on_new_alerts
            async def asynchronous(_: object) -> None:
                done.set()

            with anyio.fail_after(10):
                async with anyio.create_task_group() as group:
                    group.start_soon(client.watch, 1.0, START.replace(year=2000))
                    await done.wait()
                    group.cancel_scope.cancel()
    assert len(called) == len(set(called)) >= 1
    assert "a callback on new alerts failed" in caplog.text


async def test_the_stores_example_follows_what_is_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    follow: Callable[[Path], Coroutine[Any, Any, None]] = run(STORE)["follow"]
    async with open_store(tmp_path / "store.db") as store:
        lease = await store.acquire("poll:model", "test:1:a", TTL)
        assert lease is not None
        async with anyio.create_task_group() as group:
            group.start_soon(follow, tmp_path / "store.db")
            printed = ""
            with anyio.fail_after(10):
                for number in range(1000):
                    await store.save("model", Page((record(str(number), START),), START), lease)
                    await anyio.sleep(0.05)
                    printed += capsys.readouterr().out
                    if "created model/" in printed:
                        break
            group.cancel_scope.cancel()
    assert "alert" in printed
