"""A prompt that answers mistakes in words, and as the client's (invalid params), in both protocol eras.

The SDK's own says "Error rendering prompt" with code 0 in one era and an internal error in the other, and ignores arguments that
a prompt does not have.
"""

from __future__ import annotations

import difflib
from typing import Any

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.prompts.base import Message, Prompt
from mcp.shared.exceptions import MCPError
from mcp.types import INTERNAL_ERROR, INVALID_PARAMS, InputRequiredResult
from pydantic import ValidationError

from xdr_mcp.errors import QueryError, XdrMcpError
from xdr_mcp.server.answers.desk import UnknownAlert
from xdr_mcp.server.refusals import in_words
from xdr_mcp.untrusted import contained

_SHOWN = 80


class AlertPrompt(Prompt):
    """Checks its arguments before it asks for facts. One that is blank counts as not given: forms send all of theirs."""

    async def render(
        self, arguments: dict[str, Any] | None, context: Context[Any, Any]
    ) -> list[Message] | InputRequiredResult:
        """The messages.

        Raises:
            MCPError: an argument is missing, wrong, or none of this prompt's.
        """
        given = {name: value for name, value in (arguments or {}).items() if str(value).strip()}
        self._check(given)
        try:
            return await super().render(given, context)
        except ValueError as error:  # the SDK's wrapping of whatever went wrong
            if (told := _told(error.__cause__)) is None:
                raise
            raise told from error

    def _check(self, given: dict[str, Any]) -> None:
        known = {argument.name: argument for argument in self.arguments or ()}
        if unknown := [name for name in given if name not in known]:
            close = difflib.get_close_matches(unknown[0], known, n=1)
            hint = f"; did you mean {close[0]}?" if close else "."
            raise _invalid(
                f"{self.name} has no argument {contained(unknown[0], _SHOWN)}{hint} It has {', '.join(known)}."
            )
        for name, argument in known.items():
            if argument.required and name not in given:
                raise _invalid(f"{self.name} needs the argument {name}: {argument.description}.")


def _told(cause: BaseException | None) -> MCPError | None:
    match cause:
        case ValidationError():
            return _invalid("\n".join(_problem(problem) for problem in cause.errors(include_url=False)))
        case QueryError() | UnknownAlert():
            return _invalid(in_words(cause))
        case XdrMcpError():
            return MCPError(INTERNAL_ERROR, in_words(cause))
        case _:
            return None


def _problem(problem: Any) -> str:
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}, not {contained(str(problem['input']), _SHOWN)}"


def _invalid(text: str) -> MCPError:
    return MCPError(INVALID_PARAMS, text)
