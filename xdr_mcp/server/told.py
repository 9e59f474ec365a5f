"""Which alerts the server has named of itself: where a listing or an alert's own entry says so, and the question did not.

An id that a model has from the text of an alert is one that an attacker may have written there. One that stands as the id
of a row in an answer is the vendor's. So the ids of rows are remembered, unless the question brought them.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote

import msgspec
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.types import CallToolResult

from xdr_mcp.query import FIELDS, fold, words_of
from xdr_mcp.untrusted import fenced, unspell

REMEMBERED: Final = 10_000
_ROWS: Final = ("alerts", "alert", "changes")
"""The members of an answer whose ``id`` and ``ids`` are alerts'. What the vendor's record or context holds is not looked at."""
_ID_FIELD = "|".join(re.escape(name).replace("_", "[_-]") for name in (FIELDS["id"].name, *FIELDS["id"].aliases))
_ASKS_FOR_AN_ID: Final = re.compile(rf"(?<![\w.])(?:{_ID_FIELD})s?\s*[:=!]", re.IGNORECASE)
_WORD: Final = re.compile(r"[^\W_]+\*?")


class ToldIds:
    """The alert ids told last, some thousands of them, by one process to whichever client."""

    def __init__(self, most: int = REMEMBERED) -> None:
        self._most = most
        self._ids: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, alert_id: str) -> bool:
        return alert_id in self._ids

    def note(self, asked: str, ids: Iterable[str]) -> None:
        """Remember the ids of an answer that the question did not name: whole or in words, percent-encoded or not."""
        if _ASKS_FOR_AN_ID.search(asked):
            return
        question = fold(f"{asked} {unquote(asked)}")
        words = frozenset(_WORD.findall(question))
        for alert_id in ids:
            vendor_id = alert_id.partition("/")[2]
            if fold(vendor_id) not in question and not _found_by(words, words_of(vendor_id)):
                self._ids[alert_id] = None
                self._ids.move_to_end(alert_id)
        while len(self._ids) > self._most:
            self._ids.popitem(last=False)

    async def listen(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Server middleware that notes what tools and resources answer."""
        result = await call_next(ctx)
        params = ctx.params or {}
        if ctx.method == "tools/call":
            self.note(_texts_of(params.get("arguments")), _ids_of_call(result))
        elif ctx.method == "resources/read":
            self.note(unquote(str(params.get("uri", ""))), _ids_of_resource(result))
        return result


def _found_by(asked: Iterable[str], words: Iterable[str]) -> bool:
    """Whether a word that was asked for, or its beginning (``4f9a*``), is one of these: a text search finds ids, too."""
    return any(
        word.startswith(each.removesuffix("*")) if each.endswith("*") else word == each
        for each in asked
        for word in words
    )


def _texts_of(arguments: object) -> str:
    match arguments:
        case str():
            return arguments
        case dict():
            return " ".join(map(_texts_of, arguments.values()))
        case list():
            return " ".join(map(_texts_of, arguments))
        case _:
            return ""


def _ids_of_call(result: HandlerResult) -> Iterator[str]:
    if isinstance(result, CallToolResult):  # as it was made: to dump it takes longer than to look for ids
        structured, texts = result.structured_content, [getattr(each, "text", None) for each in result.content]
    else:
        told = _plain(result)
        structured, texts = told.get("structuredContent"), [each.get("text") for each in told.get("content") or ()]
    yield from _ids_in(structured)
    for text in texts:
        yield from _ids_in(_json_within(text))


def _ids_of_resource(result: HandlerResult) -> Iterator[str]:
    for content in _plain(result).get("contents") or ():
        yield from _ids_in(_json_within(content.get("text")))


def _plain(result: HandlerResult) -> Mapping[str, Any]:
    if result is None or isinstance(result, dict):
        return result or {}
    return result.model_dump(by_alias=True, mode="json")


def _json_within(text: object) -> object:
    """The JSON that a text is, or that its first fence holds: whatever else stands in it may quote anything."""
    if not isinstance(text, str):
        return None
    try:
        return msgspec.json.decode(next(iter(fenced(text)), text))
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def _ids_in(answer: object) -> Iterator[str]:
    if not isinstance(answer, dict):
        return
    for name in _ROWS:
        rows = answer.get(name)
        for row in rows if isinstance(rows, list) else [rows]:
            if isinstance(row, dict):
                ids = row.get("ids")
                told = [row.get("id"), *(ids if isinstance(ids, list) else ())]
                yield from (unspell(each) for each in told if isinstance(each, str))
