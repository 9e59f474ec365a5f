"""Every way by which an alert's text leaves the program, gone through with a real client, store, log and terminal."""

from __future__ import annotations

import io
import json
import logging
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import anyio
from containment import oracle
from containment.corpus import PAYLOADS, Payload
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp.types import PromptReference, ResourceTemplateReference
from msgspec import structs
from rich.console import Console
from serving import NOON, a_server, an_alert, report, save, watching

from xdr_mcp.alert import UNTRUSTED_FIELDS, Alert, Attack, Entity, EntityKind, Status
from xdr_mcp.cli.terminal import alert_line, alert_table, entry_text
from xdr_mcp.errors import NotFound
from xdr_mcp.interfaces import ContextItems, Plan, Record, Store, Takes, VendorRequest
from xdr_mcp.proposal import TriageChange
from xdr_mcp.server.address import OneAlert, uri_of
from xdr_mcp.telemetry import JsonFormatter, PlainFormatter
from xdr_mcp.untrusted import spell

ALL: Final = {"budget": 50_000}
KINDS: Final = (EntityKind.HOST, EntityKind.USER, EntityKind.COMMAND, EntityKind.FILE, EntityKind.URL)
COUNTED: Final = ("entity", "host", "label", "assignee", "rule", "category", "product", "technique")


def alert_of(number: int, payload: Payload, **changes: Any) -> Alert:
    """An alert with the text in every field that others write, in all other texts of the vendor's, and in its id."""
    bare, marked = payload.text, f"{payload.text}\n{payload.canary}"
    chosen: dict[str, Any] = {
        "title": marked,
        "description": marked,
        "assignee": marked,
        "entities": tuple(Entity(kind, marked) for kind in KINDS),
        "labels": (marked, f"x {marked}"),
        "recommended_actions": (marked,),
        "url": marked,
    }
    assert set(chosen) == set(UNTRUSTED_FIELDS), "a field that others write is not tried"
    texts = dict.fromkeys(("product", "vendor", "tenant", "category", "rule_name"), bare)
    attack = Attack(technique="T1059", technique_name=bare, tactic="TA0002", tactic_name=bare)
    told = {"vendor_id": f"{number}-{bare[:60]}", "rule_id": f"R-{number}", "attacks": (attack,)} | texts | chosen
    return an_alert(number, **told | changes)


def raw_of(payload: Payload) -> bytes:
    marked = f"{payload.text}\n{payload.canary}"
    record = {"name": marked, marked: "value", "deep": [{"x": [marked]}]}
    return json.dumps(record, ensure_ascii=False).encode()


def tried(techniques: Sequence[str] = ()) -> list[tuple[int, Payload]]:
    """The payloads of these techniques, or all, numbered."""
    return [(at, each) for at, each in enumerate(PAYLOADS, 1) if not techniques or each.technique in techniques]


class Checked:
    """How many texts were checked at each exit, and what was wrong with them."""

    def __init__(self) -> None:
        self.texts: Counter[str] = Counter()
        self.seen: set[str] = set()
        self.wrong: list[str] = []

    def add(self, name: str, told: Any, faults: Iterable[str]) -> None:
        text = told if isinstance(told, str) else json.dumps(told)
        self.texts[name] += 1
        self.seen.update(oracle.CANARY.findall(text))
        self.wrong += [f"{name}: {fault} in {text[:300]!r}" for fault in faults]


class Vendor:
    """Tells the same text as live context."""

    name = "xdr"
    idle_reason = ""
    context_parts: Sequence[str] = ("events", "assets", "intelligence")

    async def context(self, vendor_id: str, part: str, limit: int) -> ContextItems:  # noqa: ARG002 (one answer to all)
        marked = next(f"{each.text}\n{each.canary}" for number, each in tried() if vendor_id.startswith(f"{number}-"))
        return ContextItems(({"name": marked, marked: [marked]},), 1)


class Writable:
    """May be planned for and is never called."""

    takes = Takes(statuses=(Status.RESOLVED,), verdicts=())

    def plan(self, record: Record, change: TriageChange, mark: str) -> Plan:
        body = change.fields | {"comment": f"{change.comment} [{mark}]"}
        request = VendorRequest(method="PATCH", path=record.alert.vendor_id, body=body, repeatable=False)
        return Plan((request,), structs.replace(record.alert, status=Status.RESOLVED, assignee=change.assignee or ""))

    async def read(self, vendor_id: str) -> Record:
        raise NotFound(f"{vendor_id}: nobody was to be called")

    async def send(self, request: VendorRequest) -> None:
        raise NotFound(f"{request.path}: nobody was to be called")


@asynccontextmanager
async def serving(folder: Path, numbered: Sequence[tuple[int, Payload]]) -> AsyncIterator[tuple[Any, Store]]:
    """A server over a store in which each text stands in two alerts, so that they are related, and the first changed."""
    async with a_server(folder, contexts={"xdr": Vendor()}, proposing=True, writable={"xdr": Writable()}) as (
        server,
        store,
    ):
        for number, payload in numbered:
            first = alert_of(number, payload, title="Before")
            twin = alert_of(number, payload, vendor_id=f"{number}-twin")
            changed = alert_of(number, payload, updated=NOON + timedelta(minutes=1))
            await save(store, first, twin, raw=raw_of(payload))
            await save(store, changed, raw=raw_of(payload))
        await report(store, "failing", last_success=NOON, last_error=numbered[0][1].text)
        yield server, store


# ---------------------------------------------------------------- what a model is told


async def alerts(client: Client, numbered: Sequence[tuple[int, Payload]], checked: Checked) -> None:
    for number, payload in numbered:
        asked = {"id": spell(alert_of(number, payload).id), "include_raw": True}
        await _call(client, "get_alert", asked | ALL, checked)


async def around(client: Client, numbered: Sequence[tuple[int, Payload]], checked: Checked) -> None:
    for number, payload in numbered:
        for name in ("related_alerts", "alert_context"):
            await _call(client, name, {"id": spell(alert_of(number, payload).id)} | ALL, checked)


async def proposals(client: Client, numbered: Sequence[tuple[int, Payload]], checked: Checked) -> None:
    """A change whose comment was copied from the alert."""
    for number, payload in numbered:
        marked = f"{payload.text}\n{payload.canary}"[:1_000]
        asked = {"id": spell(alert_of(number, payload).id), "comment": marked, "status": "resolved"}
        result = await client.call_tool("propose_triage", asked | ALL)
        told = result.content[0].text  # type: ignore[union-attr]  # tools tell text alone
        if result.is_error:
            checked.add("refusal: propose_triage", told, _quoted(told))
        else:
            checked.add("propose_triage, its line", told, _free(told))
            checked.add(
                "propose_triage, structured", result.structured_content, oracle.of_data(result.structured_content)
            )


async def listings(client: Client, checked: Checked) -> None:
    rows = {"limit": 100, "fields": ["id", *UNTRUSTED_FIELDS, "rule_name", "attacks"]}
    asked: list[tuple[str, dict[str, Any]]] = [
        ("list_alerts", {}),
        ("list_alerts", {"budget": 900}),
        ("list_alerts", rows | ALL),
        ("filter_alerts", {"query": "zebra*", "limit": 100} | ALL),
        ("filter_alerts", {"query": "zebra*", "budget": 400}),
        *(("count_alerts", {"by": [field], "limit": 100} | ALL) for field in COUNTED),
        ("alert_changes", {"since": 0, "limit": 100} | ALL),
        ("alert_changes", {"since": 0, "limit": 100, "budget": 800}),
        ("wait_for_alerts", {"since": 0} | ALL),
        ("source_status", {}),
    ]
    for name, arguments in asked:
        for _ in range(6):
            following = await _call(client, name, arguments, checked)
            if not following:
                break
            arguments = arguments | following  # noqa: PLW2901 (the next page of the same question)


async def _call(client: Client, name: str, arguments: dict[str, Any], checked: Checked) -> dict[str, Any]:
    """Structured and as text; how to go on, where there is more."""
    result = await client.call_tool(name, arguments)
    assert not result.is_error, result.content
    data: dict[str, Any] = result.structured_content or {}
    checked.add(f"{name}, structured", data, oracle.of_data(data))
    line = result.content[0].text  # type: ignore[union-attr]  # tools tell text alone
    checked.add(f"{name}, its line", line, [*_free(line)])
    result = await client.call_tool(name, arguments | {"as_text": True})
    text = result.content[0].text  # type: ignore[union-attr]  # tools tell text alone
    checked.add(f"{name}, as text", text, [*oracle.of_fenced(text), *_empty(result.structured_content)])
    if "next_cursor" in data:
        return {"cursor": data["next_cursor"]}
    return {"since": data["next"]} if data.get("more") and "next" in data else {}


def _free(line: str) -> Iterator[str]:
    """What is wrong with words of ours: that they are others'."""
    yield from oracle.faults(line)
    if oracle.CANARY.search(line):
        yield f"text of others without a label: {line[:80]!r}"


def _empty(data: Any) -> Iterator[str]:
    if data != {"as_text": True}:
        yield "the data twice"


async def resources(client: Client, numbered: Sequence[tuple[int, Payload]], checked: Checked) -> None:
    uris = {uri_of(OneAlert(alert_of(number, payload).id)): "an alert" for number, payload in numbered}
    fixed = {"xdr://alerts/recent": "recent", "xdr://alerts/search?q=zebra*": "a search", "xdr://status": "status"}
    for uri, name in (uris | fixed).items():
        text = (await client.read_resource(uri)).contents[0].text  # type: ignore[union-attr]  # all are text
        data = json.loads(text)
        checked.add(f"resource: {name}", data, oracle.of_data(data))


async def prompts(client: Client, numbered: Sequence[tuple[int, Payload]], checked: Checked) -> None:
    asked: list[tuple[str, dict[str, str]]] = [("shift_handover", {}), ("incident_report", {"query": "zebra*"})]
    for number, payload in numbered:
        told_id = spell(alert_of(number, payload).id)
        asked += [("triage_alert", {"id": told_id}), ("explain_detection", {"id": told_id})]
        asked.append(("hunt_entity", {"kind": "host", "entity": f"*{payload.canary}"}))
    for name, arguments in asked:
        message = (await client.get_prompt(name, arguments)).messages[0].content.text  # type: ignore[union-attr]  # text
        checked.add(f"prompt: {name}", message, oracle.of_fenced(message))


async def completions(client: Client, checked: Checked) -> None:
    template = ResourceTemplateReference(uri="xdr://alerts/{id}")
    search = ResourceTemplateReference(uri="xdr://alerts/search{?q}")
    hunt = PromptReference(name="hunt_entity")
    asked: list[tuple[ResourceTemplateReference | PromptReference, str, str]] = [
        *((template, "id", f"xdr/{digit}") for digit in range(10)),
        *((search, "q", f"{field}:") for field in COUNTED),
        *((hunt, "entity", typed) for typed in ("", *"<[!iIa\"'}#*xhA")),
    ]
    for ref, name, typed in asked:
        told = (await client.complete(ref, {"name": name, "value": typed})).completion.values
        for value in told:
            checked.add(f"completion: {name}", value, oracle.faults(value))


async def refusals(client: Client, numbered: Sequence[tuple[int, Payload]], checked: Checked) -> None:
    """What was asked may be copied from an alert, and is quoted."""
    for _, payload in numbered:
        asked = f"{payload.text}"[:2_000]
        for name, arguments in (
            ("get_alert", {"id": asked}),
            ("filter_alerts", {"query": f"{asked} ("}),
            ("list_alerts", {asked: 1}),
            ("list_alerts", {"severity": asked}),
            ("list_alerts", {"since": asked}),
            ("list_alerts", {"cursor": asked}),
            ("list_alerts", {"fields": [asked]}),
            ("count_alerts", {"by": [asked]}),
        ):
            result = await client.call_tool(name, arguments)
            told = result.content[0].text  # type: ignore[union-attr]  # tools tell text alone
            checked.add(f"refusal: {name}", told, [*_quoted(told)] if result.is_error else ())
        for read in (
            lambda asked=asked: client.read_resource(uri_of(OneAlert(f"xdr/{asked}"))),
            lambda asked=asked: client.get_prompt("triage_alert", {"id": asked}),
            lambda asked=asked: client.get_prompt("hunt_entity", {"kind": asked, "entity": "x"}),
        ):
            try:
                await read()
            except MCPError as error:
                checked.add("refusal: resource or prompt", str(error), [*_quoted(str(error))])


def _quoted(told: str) -> Iterator[str]:
    """A refusal may mark a fault below a long query: that line alone is blank for long."""
    yield from oracle.faults("\n".join(line for line in told.split("\n") if not re.fullmatch(r" *\^+", line)))


async def notifications(server: Any, store: Store, era: str, checked: Checked) -> None:
    number, payload = tried()[0]
    uris = ["xdr://alerts/recent", "xdr://alerts/search?q=zebra*", uri_of(OneAlert(alert_of(number, payload).id))]
    async with watching(server.mcp, era, uris) as (_, updates):
        for at in range(len(uris)):
            await save(store, alert_of(number, payload, updated=NOON + timedelta(minutes=2 + at)))
            uri = await updates.next()
            wrong = () if re.fullmatch(r"xdr://[\w.~%/?=*-]+", uri) and "zebra0" not in uri else (uri,)
            checked.add("notification", uri, wrong)
        await anyio.lowlevel.checkpoint()


# ---------------------------------------------------------------- what people are shown


def logs(numbered: Sequence[tuple[int, Payload]], checked: Checked) -> None:
    for _, payload in numbered:
        marked = f"{payload.text}\n{payload.canary}"
        for name, formatter in (("plain", PlainFormatter()), ("json", JsonFormatter())):
            for record in (_record(marked), _record("x", marked)):
                lines = formatter.format(record).split("\n")
                assert all(line.startswith(("2", "{", "    | ")) for line in lines), "a line that is not ours"
                for line in lines:
                    checked.add(f"log, {name}", line, oracle.of_line(line))


def _record(message: str, failure: str = "") -> logging.LogRecord:
    error = ValueError(failure)
    return logging.LogRecord("xdr_mcp.poller", logging.WARNING, "x.py", 1, "%s", (message,), (ValueError, error, None))


def terminal(numbered: Sequence[tuple[int, Payload]], checked: Checked) -> None:
    alerts = [alert_of(number, payload) for number, payload in numbered]
    for alert in alerts:
        line = alert_line(alert).replace("\t", " ")
        checked.add("terminal: a line", line, oracle.of_line(line))
    with _printing() as (out, printed):
        out.print(alert_table(alerts))
        for alert in alerts:
            out.print(entry_text("created", alert, NOON, 200))
    for line in printed().split("\n"):
        checked.add("terminal: table and feed", line, oracle.of_line(line))


@contextmanager
def _printing() -> Iterator[tuple[Console, Callable[[], str]]]:
    """A console as the command line has it, without colours of its own."""
    stream = io.StringIO()
    yield (
        Console(file=stream, width=200, markup=False, highlight=False, emoji=False, color_system=None),
        stream.getvalue,
    )
