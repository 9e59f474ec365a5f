"""What every server under comparison brings: how it is reached, and for each question the calls that answer it best."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from mcp import Client

from bench.peers.questions import Subject
from evals.assistant import Assistant

Answering = Callable[[Assistant, Subject], Awaitable[Any]]
"""Asks the server and works the answer out, from nothing but what it was told."""


@dataclass(frozen=True)
class Cannot:
    """The server's tools do not give it; why."""

    why: str


@dataclass(frozen=True)
class Peer:
    """A server under comparison."""

    name: str
    connected: Callable[[], AbstractAsyncContextManager[Client]]
    page: tuple[str, dict[str, Any]]
    """The call that gives 25 alerts as the server gives them by itself."""
    answers: Mapping[str, Answering | Cannot]
    assistant: Callable[[Client], Assistant] = Assistant
