"""What the comparison with other servers rests on: each is asked everything or says why not, of backends that know the truth."""

from __future__ import annotations

import httpx
import pytest

from bench.peers import falcon, klaxon, ours, secops
from bench.peers.answering import Cannot
from bench.peers.falcon_backend import Falcon
from bench.peers.questions import SOURCE, questions, subject
from bench.peers.secops_backend import SecOps
from bench.peers.wazuh_backend import INDEX, Wazuh
from evals.assistant import Assistant
from evals.estate import World, connected

pytestmark = pytest.mark.anyio


def vendor(app: Falcon | SecOps | Wazuh) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app.app), base_url="http://vendor.test")


def test_every_server_answers_every_question_or_says_why_it_cannot(here: World) -> None:
    asked = [question.name for question in questions(here)]
    assert len(asked) == 10
    for answers in (falcon.ANSWERS, secops.ANSWERS, klaxon.ANSWERS, ours.ANSWERS):
        assert list(answers) == asked
        assert all(answer.why for answer in answers.values() if isinstance(answer, Cannot))


async def test_ours_answers_all_ten(here: World) -> None:
    async with connected(here) as client:
        for question in questions(here):
            way = ours.ANSWERS[question.name]
            assert not isinstance(way, Cannot)
            assert await way(Assistant(client), subject(here)) == question.truth, question.name


async def test_the_backends_know_the_same_alerts(here: World) -> None:
    revisions = here.revisions_of(SOURCE)
    true = {revision.alert_id for revision in revisions}
    async with vendor(Falcon(revisions)) as client:
        ids = (await client.get("/alerts/queries/alerts/v2", params={"limit": 9999})).json()["resources"]
        assert {one.rpartition(":")[2] for one in ids} == true
        query = {"filter": "severity_name:'Critical'+status:['new','in_progress']", "limit": "1"}
        total = (await client.get("/alerts/queries/alerts/v2", params=query)).json()["meta"]["pagination"]["total"]
        assert total == next(question.truth for question in questions(here) if question.name == "count")
        with pytest.raises(ValueError, match="does not understand the FQL"):
            await client.get("/alerts/queries/alerts/v2", params={"filter": "name:~'x'"})
    async with vendor(SecOps(revisions)) as client:
        times = {"timeRange.start_time": "2026-01-01T00:00:00+00:00", "timeRange.end_time": "2027-01-01T00:00:00+00:00"}
        asked = {**times, "maxNumAlertsToReturn": "9999"}
        path = "/v1alpha/projects/p/locations/us/instances/i/legacy:legacySearchRulesAlerts"
        told = (await client.get(path, params=asked)).json()
        found = {alert["id"].removeprefix("de_") for rule in told["ruleAlerts"] for alert in rule["alerts"]}
        assert found == true
        assert not told["tooManyAlerts"]
    async with vendor(Wazuh(revisions)) as client:
        body = {"size": 9999, "aggs": {"by": {"terms": {"field": "wazuh.rule.level"}}}}
        told = (await client.post(f"/{INDEX}/_search", json=body)).json()
        assert {hit["_source"]["event"]["id"] for hit in told["hits"]["hits"]} == true
        counts = {bucket["key"]: bucket["doc_count"] for bucket in told["aggregations"]["by"]["buckets"]}
        assert counts == next(question.truth for question in questions(here) if question.name == "group")
        with pytest.raises(ValueError, match="does not understand"):
            await client.post(f"/{INDEX}/_search", json={"query": {"match": {"message": "x"}}})
