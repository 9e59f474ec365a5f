"""All questions, in order."""

from __future__ import annotations

from evals.asking import Question
from evals.estate import World
from evals.questions import counting, finding, history, honesty

__all__ = ["questions"]


def questions(world: World) -> list[Question]:
    """What is asked of this world, each with what is true of it."""
    return [question for part in (finding, counting, history, honesty) for question in part.questions(world)]
