"""A Wazuh 5 indexer in small, written from the public shapes of OpenSearch's search: findings, queried and aggregated.

Of the query DSL it takes what the ten questions need: ``match_all``, ``bool`` with ``filter``, ``term``, ``terms``, ``range``; ``sort``,
``size``, ``_source``; ``terms`` and ``date_histogram`` by day.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from xdr_mcp.simulator.revision import Revision, stamp

Finding = dict[str, Any]

INDEX: Final = "wazuh-findings-v5-*"
_LEVELS: Final = ("informational", "informational", "low", "medium", "high", "critical")
_DAY: Final = len("2026-01-01")


class Wazuh:
    """An indexer that holds these alerts as findings."""

    def __init__(self, revisions: Sequence[Revision]) -> None:
        self._findings = [finding_of(revision) for revision in revisions]
        self.app = Starlette(routes=[Route(f"/{INDEX}/_search", self._search, methods=["POST"])])

    async def _search(self, request: Request) -> Response:
        asked = await request.json()
        found = [finding for finding in self._findings if _holds(finding, asked.get("query", {"match_all": {}}))]
        for order in reversed(asked.get("sort", [])):
            ((field, direction),) = order.items()
            found.sort(key=lambda finding, field=field: str(_value(finding, field)), reverse=direction == "desc")  # type: ignore[misc] # mypy takes the default for untyped
        hits = [
            {"_index": INDEX, "_id": _value(finding, "event.id"), "_source": _chosen(finding, asked.get("_source"))}
            for finding in found[: asked.get("size", 10)]
        ]
        answer = {
            "took": 3,
            "timed_out": False,
            "_shards": {"total": 1, "successful": 1, "skipped": 0, "failed": 0},
            "hits": {"total": {"value": len(found), "relation": "eq"}, "max_score": None, "hits": hits},
        }
        if "aggs" in asked:
            answer["aggregations"] = {name: _buckets(found, wanted) for name, wanted in asked["aggs"].items()}
        return JSONResponse(answer)


def finding_of(revision: Revision) -> Finding:
    """An alert of the simulated company, as a finding."""
    attributes = revision.record["attributes"]
    data = attributes["supportingData"]
    created = stamp(revision.created)
    return {
        "@timestamp": created,
        "event": {
            "id": revision.alert_id,
            "created": created,
            "kind": "alert",
            "category": [attributes["generatedBy"]],
        },
        "wazuh": {
            "agent": {"name": data.get("hostname", ""), "id": "001"},
            "rule": {"id": attributes["ruleId"], "title": attributes["name"], "level": _LEVELS[attributes["severity"]]},
            "cluster": {"name": "wazuh", "node": "node01"},
        },
        "message": attributes["message"],
        "host": {"hostname": data.get("hostname", ""), "ip": data.get("host_ip", "")},
        "user": {"name": data.get("user", "")},
        "process": {"name": data.get("process_name", ""), "command_line": data.get("command_line", "")},
        "file": {"path": data.get("file_path", ""), "hash": {"sha256": data.get("sha256", "")}},
        "source": {"ip": data.get("src_ip", "")},
        "destination": {"ip": data.get("dst_ip", "")},
    }


def _value(finding: Finding, field: str) -> Any:
    value: Any = finding
    for part in field.split("."):
        value = value[part]
    return value


def _holds(finding: Finding, query: dict[str, Any]) -> bool:
    ((kind, body),) = query.items()
    if kind == "match_all":
        return True
    if kind == "bool" and set(body) == {"filter"}:
        return all(_holds(finding, part) for part in body["filter"])
    if kind not in {"term", "terms", "range"}:
        raise ValueError(f"this backend does not understand {query}")
    ((field, wanted),) = body.items()
    value = _value(finding, field)
    if kind == "range":
        return all({"gte": value >= bound, "lte": value <= bound}[name] for name, bound in wanted.items())
    return bool(value == wanted if kind == "term" else value in wanted)


def _chosen(finding: Finding, fields: list[str] | None) -> Finding:
    """The finding, or what was asked of it, nested as it was."""
    if fields is None:
        return finding
    chosen: Finding = {}
    for field in fields:
        *parents, name = field.split(".")
        place = chosen
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = _value(finding, field)
    return chosen


def _buckets(found: list[Finding], wanted: dict[str, Any]) -> dict[str, Any]:
    if "date_histogram" in wanted:
        days = Counter(str(_value(finding, wanted["date_histogram"]["field"]))[:_DAY] for finding in found)
        return {
            "buckets": [{"key_as_string": f"{day}T00:00:00.000Z", "doc_count": n} for day, n in sorted(days.items())]
        }
    values = Counter(_value(finding, wanted["terms"]["field"]) for finding in found)
    shown = values.most_common(wanted["terms"].get("size", 10))
    others = sum(values.values()) - sum(number for _, number in shown)
    buckets = [{"key": value, "doc_count": number} for value, number in shown]
    return {"doc_count_error_upper_bound": 0, "sum_other_doc_count": others, "buckets": buckets}
