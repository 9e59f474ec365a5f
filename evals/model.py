"""A model in the script's place: it is given the question, the server's instructions and tools, and answers by itself.

``EVALS_MODEL_URL`` is the address of its endpoint: ``…/messages`` speaks as Anthropic's does, anything else as OpenAI's
``…/chat/completions``. ``EVALS_MODEL`` is the model's name and ``EVALS_MODEL_KEY`` the key. Without the address nothing is
called.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, Self

import httpx

from evals.asking import Answer, Question
from evals.assistant import Assistant
from evals.clock import NOON, stamp

_MOST_TURNS: Final = 20
_TOKENS: Final = 4_000
_PATIENCE: Final = 120.0

_SHAPES: Final = {
    int: "a whole number",
    str: "a text",
    list: "a list of texts, in the order asked for",
    set: "a list of texts, in any order",
    dict: "an object of whole numbers by name",
}


class Dialect(Protocol):
    """How an endpoint is asked, and what it says."""

    def request(self, model: str, system: str, tools: Sequence[Any], turns: Sequence[Any]) -> dict[str, Any]:
        """The body of a request."""
        ...

    def said(self, body: dict[str, Any]) -> tuple[str, list[Wish], Any]:
        """The text of an answer, the calls it asks for, and the answer as the next request repeats it."""
        ...

    def results(self, results: Sequence[tuple[Wish, str]]) -> list[dict[str, Any]]:
        """The turns that tell what calls gave."""
        ...


@dataclass(frozen=True)
class Wish:
    """A call that a model asks for."""

    id: str
    tool: str
    arguments: dict[str, Any]


class OpenAI:
    """``/chat/completions`` and what is compatible with it."""

    def request(self, model: str, system: str, tools: Sequence[Any], turns: Sequence[Any]) -> dict[str, Any]:
        """See ``Dialect``."""
        told = [
            {"type": "function", "function": {"name": tool.name, "description": tool.description, "parameters": tool.input_schema}}
            for tool in tools
        ]  # fmt: skip
        return {"model": model, "messages": [{"role": "system", "content": system}, *turns], "tools": told}

    def said(self, body: dict[str, Any]) -> tuple[str, list[Wish], Any]:
        """See ``Dialect``."""
        message = body["choices"][0]["message"]
        wishes = [
            Wish(call["id"], call["function"]["name"], json.loads(call["function"]["arguments"] or "{}"))
            for call in message.get("tool_calls") or ()
        ]
        return message.get("content") or "", wishes, message

    def results(self, results: Sequence[tuple[Wish, str]]) -> list[dict[str, Any]]:
        """See ``Dialect``."""
        return [{"role": "tool", "tool_call_id": wish.id, "content": text} for wish, text in results]


class Anthropic:
    """``/messages``."""

    def request(self, model: str, system: str, tools: Sequence[Any], turns: Sequence[Any]) -> dict[str, Any]:
        """See ``Dialect``."""
        told = [
            {"name": tool.name, "description": tool.description, "input_schema": tool.input_schema} for tool in tools
        ]
        return {"model": model, "system": system, "messages": list(turns), "tools": told, "max_tokens": _TOKENS}

    def said(self, body: dict[str, Any]) -> tuple[str, list[Wish], Any]:
        """See ``Dialect``."""
        parts = body["content"]
        text = "".join(part["text"] for part in parts if part["type"] == "text")
        wishes = [Wish(part["id"], part["name"], part["input"]) for part in parts if part["type"] == "tool_use"]
        return text, wishes, {"role": "assistant", "content": parts}

    def results(self, results: Sequence[tuple[Wish, str]]) -> list[dict[str, Any]]:
        """See ``Dialect``."""
        parts = [{"type": "tool_result", "tool_use_id": wish.id, "content": text} for wish, text in results]
        return [{"role": "user", "content": parts}]


@dataclass(frozen=True)
class Model:
    """A model behind an endpoint."""

    url: str
    name: str
    key: str = field(repr=False)

    @classmethod
    def from_environment(cls) -> Self | None:
        """The one that the environment names; None where it names none."""
        url = os.environ.get("EVALS_MODEL_URL", "")
        return cls(url, os.environ.get("EVALS_MODEL", ""), os.environ.get("EVALS_MODEL_KEY", "")) if url else None

    async def answer(self, question: Question, assistant: Assistant) -> Answer:
        """Let the model ask tools until it answers.

        Raises:
            ValueError: it gave no answer in JSON. httpx.HTTPError: the endpoint failed.
        """
        dialect: Dialect = Anthropic() if self.url.rstrip("/").endswith("/messages") else OpenAI()
        tools = (await assistant.client.list_tools()).tools
        turns: list[Any] = [{"role": "user", "content": _task(question)}]
        headers = {"x-api-key": self.key, "anthropic-version": "2023-06-01", "Authorization": f"Bearer {self.key}"}
        async with httpx.AsyncClient(headers=headers, timeout=_PATIENCE) as http:
            for _ in range(_MOST_TURNS):
                request = dialect.request(self.name, assistant.client.instructions or "", tools, turns)
                answer = (await http.post(self.url, json=request)).raise_for_status()
                text, wishes, turn = dialect.said(answer.json())
                if not wishes:
                    return answer_in(text)
                given = [(wish, await _given(assistant, wish)) for wish in wishes]
                turns += [turn, *dialect.results(given)]
        raise ValueError(f"no answer after {_MOST_TURNS} turns")


def answer_in(text: str) -> Answer:
    """What the last JSON object of a text answers. Raises ValueError."""
    start = text.rfind('{"answer"')
    if start < 0:
        raise ValueError(f'no {{"answer": …}} in {text[-200:]!r}')
    answer: Answer = json.JSONDecoder().raw_decode(text[start:])[0]["answer"]
    return answer


def _task(question: Question) -> str:
    shape = _SHAPES[type(question.truth)]
    return (
        f"It is {stamp(NOON)}. {question.text}\n\nUse the tools. Finish with one line of JSON, "
        f'{{"answer": …}}, where the answer is {shape}. An alert is named by its id. '
        'Answer "unknown" only where nobody can know.'
    )


async def _given(assistant: Assistant, wish: Wish) -> str:
    """What a call gives, as a host shows it that shows everything."""
    call = await assistant.try_call(wish.tool, wish.arguments)
    return "\n".join(filter(None, (call.prose, json.dumps(call.data, ensure_ascii=False) if call.data else "")))
