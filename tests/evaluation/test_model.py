"""A model in the script's place: what an endpoint of either dialect is sent, and how its answers are taken."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import respx

from evals.estate import World
from evals.model import Model, answer_in
from evals.questions import questions
from evals.running import asked

pytestmark = pytest.mark.anyio

ANTHROPIC = "https://model.example/v1/messages"
OPENAI = "https://model.example/v1/chat/completions"
ASKS = {"source": "north", "severity": "critical", "limit": 1}


def of_anthropic(*, done: bool, text: str = "") -> dict[str, Any]:
    if done:
        return {"content": [{"type": "text", "text": text}]}
    return {"content": [{"type": "tool_use", "id": "t1", "name": "list_alerts", "input": ASKS}]}


def of_openai(*, done: bool, text: str = "") -> dict[str, Any]:
    if done:
        return {"choices": [{"message": {"role": "assistant", "content": text}}]}
    call = {"id": "t1", "type": "function", "function": {"name": "list_alerts", "arguments": json.dumps(ASKS)}}
    return {"choices": [{"message": {"role": "assistant", "content": None, "tool_calls": [call]}}]}


@pytest.mark.parametrize(("url", "body"), [(ANTHROPIC, of_anthropic), (OPENAI, of_openai)], ids=["anthropic", "openai"])
async def test_a_model_is_given_the_tools_and_their_answers_and_its_answer_is_judged(
    url: str, body: Any, here: World
) -> None:
    question = next(question for question in questions(here) if question.name == "known north")
    with respx.mock() as router:
        answers = [
            httpx.Response(200, json=body(done=False)),
            httpx.Response(200, json=body(done=True, text=f'It is so.\n{{"answer": {question.truth}}}')),
        ]
        endpoint = router.post(url).mock(side_effect=answers)
        outcome = await asked(question, here, Model(url, "some-model", "a-key").answer)
    assert outcome.right
    assert [call.tool for call in outcome.calls] == ["list_alerts"]
    first, second = (json.loads(call.request.content) for call in endpoint.calls)
    assert question.text in str(first["messages"])
    assert "filter_alerts" in str(first["tools"])
    assert "Security alerts" in str(first)
    assert outcome.calls[0].data["alerts"][0]["id"] in str(second["messages"])


async def test_a_model_that_gives_no_answer_is_wrong_and_the_rest_goes_on(here: World) -> None:
    question = questions(here)[0]
    with respx.mock() as router:
        router.post(OPENAI).respond(json=of_openai(done=True, text="I would rather not."))
        outcome = await asked(question, here, Model(OPENAI, "some-model", "a-key").answer)
    assert not outcome.right
    assert "no {" in outcome.trouble


def test_without_an_address_there_is_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVALS_MODEL_URL", raising=False)
    assert Model.from_environment() is None
    monkeypatch.setenv("EVALS_MODEL_URL", ANTHROPIC)
    monkeypatch.setenv("EVALS_MODEL_KEY", "a-key")
    model = Model.from_environment()
    assert model is not None
    assert "a-key" not in repr(model)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('{"answer": 3}', 3),
        ('At first {"answer": 2}, but no: {"answer": ["a"]} is it.', ["a"]),
        ('```json\n{"answer": {"high": 2}}\n```', {"high": 2}),
    ],
)
def test_the_last_answer_counts(text: str, answer: object) -> None:
    assert answer_in(text) == answer
