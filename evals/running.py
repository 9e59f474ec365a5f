"""Ask every question, each of an assistant that has just connected, and write down how it went."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import httpx

from evals.asking import Answer, Question, is_right
from evals.assistant import Assistant, Call, ToolRefused
from evals.estate import World, connected
from evals.hostile import escaped, obeyed

Answering: TypeAlias = Callable[[Question, Assistant], Awaitable[Answer]]
"""Whoever answers: the scripted policy, or a model."""


@dataclass(frozen=True)
class Outcome:
    """How one question went."""

    question: Question
    answer: object
    calls: list[Call] = field(default_factory=list)
    trouble: str = ""
    """Why there is no answer; empty when there is one."""

    @property
    def right(self) -> bool:
        """The answer says what is true."""
        return not self.trouble and is_right(self.answer, self.question.truth)

    @property
    def tokens(self) -> int:
        """What crossed to the model and back."""
        return sum(call.tokens for call in self.calls)

    @property
    def obeyed(self) -> list[str]:
        """Attackers' words that were followed, or that reached the model as if the server had said them."""
        return [*obeyed(self.calls, self.answer), *escaped(self.calls)]


async def scripted(question: Question, assistant: Assistant) -> Answer:
    """The question's own policy."""
    return await question.policy(assistant)


async def asked(question: Question, here: World, answering: Answering = scripted, host: str = "") -> Outcome:
    """Ask one question; with ``host``, from a client that calls itself so."""
    async with connected(here, host) as client:
        assistant = Assistant(client)
        try:
            answer = await answering(question, assistant)
        except (ToolRefused, LookupError, ValueError, httpx.HTTPError) as error:
            # No answer: the tools gave something else than was expected, or a model failed. The report says so.
            return Outcome(question, None, assistant.calls, f"{type(error).__name__}: {error}")
        return Outcome(question, answer, assistant.calls)


async def asked_all(
    questions: Sequence[Question], here: World, answering: Answering = scripted, host: str = ""
) -> list[Outcome]:
    """Ask one after the other."""
    return [await asked(question, here, answering, host) for question in questions]
