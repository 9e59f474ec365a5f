"""klaxon-mcp, a server for Wazuh 5: what it can be asked, and by which calls the questions are answered.

Its ``search`` hands a query in OpenSearch's own language to the indexer, so that whoever writes that well is told no more than
was asked for. Findings have no status: what is open, closed or worked on is not Wazuh's to say.
"""

from __future__ import annotations

import json
from typing import Any, Final

from bench.peers.answering import Answering, Cannot
from bench.peers.questions import Subject
from bench.peers.wazuh_backend import INDEX
from evals.assistant import Assistant, data_in
from evals.clock import hours, stamp
from evals.estate import OUTBREAK_HASH

_NEWEST: Final = [{"@timestamp": "desc"}]
PAGE = ("search", {"index": INDEX, "body": json.dumps({"size": 25, "sort": _NEWEST})})
_MOST: Final = 100


async def _search(assistant: Assistant, **body: Any) -> dict[str, Any]:
    asked = {"track_total_hits": True, "query": {"match_all": {}}, **body}
    answer = await assistant.call("search", index=INDEX, body=json.dumps(asked, separators=(",", ":")))
    return data_in(str(answer["result"]))  # the indexer's answer below a few lines of notices, all as text


async def _found(
    assistant: Assistant, query: dict[str, Any], fields: list[str], size: int = _MOST
) -> list[dict[str, Any]]:
    answer = await _search(assistant, query=query, _source=fields, size=size, sort=_NEWEST)
    return [hit["_source"] for hit in answer["hits"]["hits"]]


async def _counts(assistant: Assistant, wanted: dict[str, Any], query: dict[str, Any] | None = None) -> dict[str, int]:
    asked = {"size": 0, "aggs": {"by": wanted}, **({"query": query} if query else {})}
    buckets = (await _search(assistant, **asked))["aggregations"]["by"]["buckets"]
    return {bucket.get("key_as_string") or bucket["key"]: bucket["doc_count"] for bucket in buckets}


async def _newest(assistant: Assistant, _: Subject) -> Any:
    found = await _found(assistant, {"terms": {"wazuh.rule.level": ["high", "critical"]}}, ["event.id"], 5)
    return [finding["event"]["id"] for finding in found]


async def _one(assistant: Assistant, about: Subject) -> Any:
    (found,) = await _found(assistant, {"term": {"event.id": about.alert}}, ["process.command_line"], 1)
    return found["process"]["command_line"]


async def _group(assistant: Assistant, _: Subject) -> Any:
    return await _counts(assistant, {"terms": {"field": "wazuh.rule.level"}})


async def _host(assistant: Assistant, about: Subject) -> Any:
    found = await _found(assistant, {"term": {"host.hostname": about.host}}, ["event.id"])
    return {finding["event"]["id"] for finding in found}


async def _hash(assistant: Assistant, _: Subject) -> Any:
    by_host = {"terms": {"field": "host.hostname", "size": _MOST}}
    return {host.lower() for host in await _counts(assistant, by_host, {"term": {"file.hash.sha256": OUTBREAK_HASH}})}


async def _days(assistant: Assistant, _: Subject) -> Any:
    counts = await _counts(assistant, {"date_histogram": {"field": "@timestamp", "calendar_interval": "day"}})
    return {day[:10]: number for day, number in counts.items()}


async def _noise(assistant: Assistant, about: Subject) -> Any:
    lately = {"range": {"@timestamp": {"gte": stamp(about.now - hours(3))}}}
    counts = await _counts(assistant, {"terms": {"field": "wazuh.rule.title", "size": 1}}, lately)
    return next(iter(counts.items()))


ANSWERS: dict[str, Answering | Cannot] = {
    "count": Cannot("findings have no status"),
    "newest": _newest,
    "one": _one,
    "group": _group,
    "host": _host,
    "hash": _hash,
    "days": _days,
    "changes": Cannot("findings do not change, and are not closed"),
    "as of": Cannot("findings have no status, and nobody works on them"),
    "noise": _noise,
}
