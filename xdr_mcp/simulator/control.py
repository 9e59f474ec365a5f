"""The tests' own endpoints under ``/_sim``: the truth, and the switches. No token, never spoilt by a vice.

A test in another process asks here what is true while everything else lies to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from xdr_mcp.simulator.asked import Refused
from xdr_mcp.simulator.endpoints import json_answer, json_object
from xdr_mcp.simulator.faults import BadFaults
from xdr_mcp.simulator.revision import canonical
from xdr_mcp.simulator.simulation import Simulator

_LINES = 500


class Control:
    """What a test may ask and do over HTTP; every act answers with the status after it."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    def routes(self) -> list[Route]:
        """Questions by GET, acts by POST."""
        asks = (self.status, self.truth, self.poison)
        acts = (self.burst, self.faults, self.calm, self.resume, self.expire)
        return [
            *(Route(f"/{ask.__name__}", ask, methods=["GET"]) for ask in asks),
            *(Route(f"/{act.__name__}", act, methods=["POST"]) for act in acts),
        ]

    async def status(self, _: Request) -> Response:
        """How much there is at this time."""
        return json_answer(self._simulator.status())

    async def truth(self, _: Request) -> Response:
        """The truth, a JSON object a line."""
        self._simulator.ledger.refresh()
        return StreamingResponse(self._lines(), media_type="application/jsonl")

    async def poison(self, _: Request) -> Response:
        """Ids beside the truth, a JSON object a line."""
        lines = b"".join(canonical(one) + b"\n" for one in self._simulator.poison())
        return Response(lines, media_type="application/jsonl")

    async def burst(self, request: Request) -> Response:
        """``{"alerts": 500}``: so many at once, now."""
        number = (await json_object(request)).get("alerts")
        if not isinstance(number, int) or number < 1:
            raise Refused(400, "Bad Request", 'send {"alerts": 500}')
        self._simulator.burst(number)
        return await self.status(request)

    async def faults(self, request: Request) -> Response:
        """``{"vices": "429:0.1,late:0.05"}``: these instead of those in force."""
        try:
            self._simulator.faults.set(str((await json_object(request)).get("vices", "")))
        except BadFaults as error:
            raise Refused(400, "Bad Request", str(error)) from None
        return await self.status(request)

    async def calm(self, request: Request) -> Response:
        """Rest the vices, stop the company, show what was late."""
        self._simulator.calm()
        return await self.status(request)

    async def resume(self, request: Request) -> Response:
        """End the calm."""
        self._simulator.resume()
        return await self.status(request)

    async def expire(self, request: Request) -> Response:
        """End every token that was given for client credentials."""
        self._simulator.auth.expire()
        return await self.status(request)

    async def _lines(self) -> AsyncIterator[bytes]:
        chunk: list[bytes] = []
        for line in self._simulator.ledger.truth():
            chunk.append(canonical(line) + b"\n")
            if len(chunk) == _LINES:
                yield b"".join(chunk)
                chunk.clear()
                await asyncio.sleep(0)
        yield b"".join(chunk)
