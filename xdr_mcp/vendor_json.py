"""Reading vendors' JSON: split a page into records without one bad record costing the rest, and absorb shape drift.

A page is split into the byte slices of its records (msgspec.Raw), each decoded alone. Where the whole page is refused
(a lone surrogate, NaN, 2,000 levels of nesting somewhere in it), a tolerant scan finds the records one by one and
quarantines the one at fault, with its bytes. The scan only follows quotes and brackets: it knows no recursion, touches
each byte once, and decides nothing about validity, which stays with the decoder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from typing import Any

import msgspec
from msgspec import Raw

from xdr_mcp.alert import Alert
from xdr_mcp.errors import BadResponse, TooLarge
from xdr_mcp.interfaces import Page, Quarantined, Record

MOST_VALUES = 500_000
"""Most commas and opening brackets in a page: five times what 1,000 ordinary alerts hold. At this bound the decoded values
stay under 100 MB, where 32 MB of ``[],[],[],`` would become more than a gigabyte."""
MOST_RECORDS = 20_000
"""Most records in a page, however small: twenty times what anybody asks for."""

DEEPEST_NESTING = 100
"""Levels of a record. A decoder's own bound depends on how deep its caller's stack is; this one holds for every reader
of a stored record, wherever it stands (pydantic stops at 200)."""

_EXCERPT = 120
_COUNTED_AT_ONCE = 1 << 16

_OBJECT = msgspec.json.Decoder(dict[str, Raw])
_LIST = msgspec.json.Decoder(list[Raw])
_NAME = msgspec.json.Decoder(str)
_VALUE = msgspec.json.Decoder()

_REFUSALS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

NORMALISER_FAILURES = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    msgspec.MsgspecError,
)
"""What a normaliser raises when a record is not shaped as the vendor promises: the record's fault, not the page's."""


class Envelope:
    """A page as split: its records, which are decoded when they are asked for, and the envelope's other members, decoded.

    A decoded record is several times as large as its bytes, and ``each`` gives them one at a time: whoever makes something
    smaller of each never holds a page of them.
    """

    def __init__(self, slices: Sequence[bytes], members: dict[str, Any], bad_items: Sequence[Quarantined]) -> None:
        self.members = members
        """Everything of the envelope but the list (links, meta, @odata.nextLink, errors, included)."""
        self._slices = slices
        self._bad_items = bad_items

    def each(self, quarantined: list[Quarantined]) -> Iterator[tuple[bytes, dict[str, Any]]]:
        """Each record as its own bytes and decoded; what cannot be taken, of other members too, goes to ``quarantined``."""
        for raw, value in _readable(self._slices, quarantined):
            if isinstance(value, dict):
                yield raw, value
            else:
                quarantined.append(Quarantined(raw, "not an object"))
        quarantined += self._bad_items

    @property
    def records(self) -> tuple[tuple[bytes, dict[str, Any]], ...]:
        """All records, each as its own bytes and decoded."""
        return self._read[0]

    @property
    def quarantined(self) -> tuple[Quarantined, ...]:
        """What could not be taken."""
        return self._read[1]

    @cached_property
    def _read(self) -> tuple[tuple[tuple[bytes, dict[str, Any]], ...], tuple[Quarantined, ...]]:
        quarantined: list[Quarantined] = []
        return tuple(self.each(quarantined)), tuple(quarantined)


def split(body: bytes, member: str) -> Envelope:
    """Split ``body``, an object whose ``member`` is the list of records (a single object there counts as a list of one).

    A null in place of the list counts as an empty list. A bad item of another member that is a list (``included``) is
    quarantined like a record; any other member must be readable, since progress may hang on it (a next link).

    Raises:
        BadResponse: it is not JSON, or not such an object; the message shows what came instead (HTML, a cut text).
        TooLarge: it holds more values, or more records, than memory is to hold.
    """
    body = body.removeprefix(b"\xef\xbb\xbf")
    if not body.strip():
        raise BadResponse("the answer is empty")
    _refuse_a_bomb(body)
    slices, members = _list_first(body, member) or _list_anywhere(body, member)
    if len(slices) > MOST_RECORDS:
        raise TooLarge(f"the answer holds {len(slices):,} records, more than any page asked for: {excerpt(body)}")
    bad_items: list[Quarantined] = []
    return Envelope(slices, {name: _decoded(name, value, bad_items) for name, value in members.items()}, bad_items)


def to_page(envelope: Envelope, normalise: Callable[[dict[str, Any]], Alert], fetched: datetime) -> Page:
    """The envelope as a page: each record normalised alone, and one that ``normalise`` cannot take quarantined alone.

    ``normalise`` says no by raising: ``ValueError`` with the reason, or whatever a missing or misshapen field raises.
    """
    quarantined: list[Quarantined] = []
    return page_of(
        [normalised(normalise, raw, value) for raw, value in envelope.each(quarantined)], quarantined, fetched
    )


def normalised(normalise: Callable[..., Alert], raw: bytes, *given: Any) -> Record | Quarantined:
    """One record, normalised from what is ``given``, or why it cannot be."""
    try:
        return Record(normalise(*given), raw)
    except NORMALISER_FAILURES as error:
        return Quarantined(raw, f"not an alert as expected: {type(error).__name__}: {_clean(str(error))}")


def page_of(taken: Sequence[Record | Quarantined], quarantined: Iterable[Quarantined], fetched: datetime) -> Page:
    """Records of one answer, and those that could not be normalised or not even decoded, as a page."""
    records = tuple([one for one in taken if isinstance(one, Record)])
    refused = [one for one in taken if isinstance(one, Quarantined)] if len(records) < len(taken) else []
    return Page(records, fetched, (*quarantined, *refused))


def excerpt(body: bytes, *, end: bool = False) -> str:
    """The first (or last) 120 characters of ``body``, on one line, without control or invisible characters, quoted."""
    part = body[-4 * _EXCERPT :] if end else body[: 4 * _EXCERPT]
    text = _clean(part.decode("utf-8", "replace"), end=end)
    return f"“{text}”" if text else "(empty)"


def _clean(text: str, *, end: bool = False) -> str:
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text[: 4 * _EXCERPT]).split())
    if len(line) <= _EXCERPT:
        return line
    return f"…{line[-_EXCERPT:]}" if end else f"{line[:_EXCERPT]}…"


# ---------------------------------------------------------------- the page


def _refuse_a_bomb(body: bytes) -> None:
    if len(body) <= 2 * MOST_VALUES:  # a value takes two bytes at least: there cannot be so many
        return
    slices = (body[start : start + _COUNTED_AT_ONCE] for start in range(0, len(body), _COUNTED_AT_ONCE))
    values = sum(_count(part, b",") + _count(part, b"[") + _count(part, b"{") for part in slices)
    if values > MOST_VALUES:
        raise TooLarge(f"the answer holds some {values:,} values, more than a page of alerts: {excerpt(body)}")


def _count(text: bytes, mark: bytes) -> int:
    """How often one byte occurs: ``bytes.count`` looks at each byte, ``replace`` steps from one occurrence to the next."""
    return len(text) - len(text.replace(mark, b""))


_Others = dict[str, Raw] | dict[str, bytes]
"""The members of an envelope beside its list, not decoded."""


def _list_first(body: bytes, member: str) -> tuple[list[bytes], _Others] | None:
    """The records and the other members of an answer that begins with its list and holds no other: gone through once.

    Where what reaches from the first bracket to the last is one list, and the rest one object's members, there is no other way to
    read the answer. None where it is not so.
    """
    beginning, end = b'{"%b":[' % member.encode(), body.rfind(b"]") + 1
    if not body.startswith(beginning) or body[end : end + 1] not in (b",", b"}"):
        return None
    try:
        items = _LIST.decode(memoryview(body)[len(beginning) - 1 : end])
        others = _OBJECT.decode(b"{" + body[end:].removeprefix(b","))
    except _REFUSALS:
        return None
    if member in others or (not others and body[end:] != b"}"):
        return None
    return [bytes(memoryview(item)) for item in items], others


def _list_anywhere(body: bytes, member: str) -> tuple[list[bytes], _Others]:
    members = _members_of(body)
    if member not in members:
        raise BadResponse(f"the answer has no {member!r}: {excerpt(body)}")
    return _records_of(members.pop(member), member), members


def _members_of(body: bytes) -> _Others:
    try:
        return _OBJECT.decode(body)
    except msgspec.ValidationError as error:
        raise BadResponse(f"the answer is JSON, but not an object: {excerpt(body)}") from error
    except _REFUSALS:
        return _scan_object(body)


def _records_of(value: Raw | bytes, member: str) -> list[bytes]:
    beginning = bytes(memoryview(value)[: 4 * _EXCERPT])
    if beginning.startswith(b"["):
        return _items_of(value)
    if beginning.startswith(b"{"):
        return [bytes(memoryview(value))]
    if beginning == b"null":
        return []
    raise BadResponse(f"the answer's {member!r} is not a list: {excerpt(beginning)}")


def _items_of(value: Raw | bytes) -> list[bytes]:
    try:
        return [bytes(memoryview(item)) for item in _LIST.decode(value)]
    except _REFUSALS:
        return _scan_list(bytes(memoryview(value)))


def _readable(slices: Iterable[bytes], quarantined: list[Quarantined]) -> Iterator[tuple[bytes, Any]]:
    for raw in slices:
        try:
            value = _VALUE.decode(raw)
        except _REFUSALS as error:
            quarantined.append(Quarantined(raw, f"no parser takes it: {_why(raw, error)}"))
        else:
            if _count(raw, b"[") + _count(raw, b"{") > DEEPEST_NESTING and _too_deep(value):
                quarantined.append(Quarantined(raw, f"nested more than {DEEPEST_NESTING} levels deep"))
            else:
                yield raw, value


def _decoded(name: str, value: Raw | bytes, quarantined: list[Quarantined]) -> Any:
    try:
        return _VALUE.decode(value)
    except _REFUSALS as error:
        if bytes(memoryview(value)[:1]) == b"[":
            return [item for _, item in _readable(_items_of(value), quarantined)]
        raw = bytes(memoryview(value))
        raise BadResponse(f"the answer's {name!r} cannot be read ({_why(raw, error)}): {excerpt(raw)}") from error


_ESCAPE = re.compile(rb"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u[dD][89a-fA-F]..|\\.", re.DOTALL)
_NOT_A_NUMBER = re.compile(rb"[\[,:]\s*-?(?:NaN|Infinity)\b")
_LOOKED_AT = 1 << 20


def _why(raw: bytes, error: Exception) -> str:
    """The decoder's reason; where it speaks of truncation or an invalid character, what is really there."""
    if isinstance(error, RecursionError):
        return f"nested more than {DEEPEST_NESTING} levels deep"
    looked_at = raw[:_LOOKED_AT]
    if any(len(escape[0]) == len(rb"\ud800") for escape in _ESCAPE.finditer(looked_at)):
        return f"half of a surrogate pair, which no UTF-8 text can hold ({error})"
    if _NOT_A_NUMBER.search(looked_at):
        return f"NaN or Infinity, which JSON does not have ({error})"
    return str(error)


def _too_deep(value: object) -> bool:
    level, depth = [value], 0
    while level and depth < DEEPEST_NESTING:
        level = [child for parent in level for child in _children(parent)]
        depth += 1
    return bool(level)


def _children(parent: object) -> list[object]:
    inside = parent.values() if isinstance(parent, dict) else parent if isinstance(parent, list) else ()
    return [child for child in inside if isinstance(child, dict | list)]


# ---------------------------------------------------------------- the tolerant scan

# A lone quote is a token of its own: it means that the text is cut, and is told at once. Without it the search would go
# on from the next quote to the end, again and again. The possessive quantifiers (``++``) never try a second time.
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_STRUCTURE = re.compile(_STRING + rb'|["\[\]{}]', re.DOTALL)
_SPACE = re.compile(rb"\s++")
_SCALAR = re.compile(_STRING + rb'|[^\s"\[\]{},:]++', re.DOTALL)


class _Scan:
    """A place in a text, moved along the outline of its JSON."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._place = 0

    def take(self, mark: bytes) -> bool:
        """Step over ``mark`` if it comes next."""
        self._skip_space()
        found = self._text.startswith(mark, self._place)
        self._place += len(mark) * found
        return found

    def demand(self, mark: bytes) -> None:
        if not self.take(mark):
            raise self._refusal()

    def value(self) -> bytes:
        """Step over the value that comes next, valid or not, and return its bytes."""
        self._skip_space()
        start = self._place
        if self._text[start : start + 1] in (b"{", b"["):
            self._place = self._end_of_nest()
        elif scalar := _SCALAR.match(self._text, start):
            self._place = scalar.end()
        else:
            raise self._refusal(cut=self._text.startswith(b'"', start))
        return self._text[start : self._place]

    def finish(self) -> None:
        self._skip_space()
        if self._place != len(self._text):
            raise self._refusal()

    def _end_of_nest(self) -> int:
        depth = 0
        for token in _STRUCTURE.finditer(self._text, self._place):
            mark = token[0]
            if mark in (b"{", b"["):
                depth += 1
            elif mark in (b"}", b"]"):
                depth -= 1
                if not depth:
                    return token.end()
            elif mark == b'"':
                break
        raise self._refusal(cut=True)

    def _skip_space(self) -> None:
        if space := _SPACE.match(self._text, self._place):
            self._place = space.end()

    def _refusal(self, *, cut: bool = False) -> BadResponse:
        if cut or self._place >= len(self._text):
            shown = excerpt(self._text, end=True)
            return BadResponse(f"the answer is cut short after {len(self._text):,} bytes; it ends {shown}")
        return BadResponse(f"the answer is not JSON at byte {self._place:,}; it begins {excerpt(self._text)}")


def _scan_object(text: bytes) -> dict[str, bytes]:
    scan = _Scan(text)
    members: dict[str, bytes] = {}
    scan.demand(b"{")
    while not scan.take(b"}"):
        if members:
            scan.demand(b",")
        name = scan.value()
        scan.demand(b":")
        members[_name_of(name, text)] = scan.value()
    scan.finish()
    return members


def _name_of(raw: bytes, text: bytes) -> str:
    try:
        return _NAME.decode(raw)
    except _REFUSALS as error:
        raise BadResponse(f"the answer has a member whose name cannot be read; it begins {excerpt(text)}") from error


def _scan_list(text: bytes) -> list[bytes]:
    scan = _Scan(text)
    items: list[bytes] = []
    scan.demand(b"[")
    while not scan.take(b"]"):
        if items:
            scan.demand(b",")
        items.append(scan.value())
    return items


# ---------------------------------------------------------------- values

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d+))?)?"
    r"\s?(?:[Zz]+|UTC|([+-])([01]\d|2[0-3]):?([0-5]\d)?)?)?",
    re.ASCII,
)
_DIGITS = re.compile(r"\d{9,19}(?:\.\d{1,9})?", re.ASCII)
_LONGEST_TIME = 40


def parse_time(value: object) -> datetime | None:
    """A vendor's time as an aware UTC datetime; None for null, blank and what is no time.

    Takes ISO 8601 with 0 to 9 fractional digits (cut to microseconds), ``Z``, ``ZZ``, ``+0000``, ``+05:30``, a blank in
    place of ``T``, no zone (UTC); epoch seconds, milliseconds, microseconds or nanoseconds as number or digits.
    Digits in text are an epoch from nine on: fewer are a year or a date.
    """
    if isinstance(value, str):
        return _time_of_text(value) if len(value) <= _LONGEST_TIME else None
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _time_of_number(value)
    except (ValueError, OverflowError):
        pass
    return None


@lru_cache(4_096)  # an alert's times are often equal, and each is asked for several times
def _time_of_text(padded: str) -> datetime | None:
    text = padded.strip()
    try:
        if _DIGITS.fullmatch(text):
            return _time_of_number(float(text) if "." in text else int(text))
        return _time_of_iso(text)
    except (ValueError, OverflowError):
        return None


def _time_of_iso(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:  # ``ZZ``, a blank before the zone: rare, and four times slower to read
        return _time_of_parts(text)
    if moment.tzinfo is UTC:
        return moment
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _time_of_parts(text: str) -> datetime | None:
    found = _ISO.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, sign, zone_hours, zone_minutes = found.groups(default="0")
    moment = datetime(
        int(year),
        int(month),
        int(day),
        int(hour),
        int(minute),
        int(second),
        int(fraction[:6].ljust(6, "0")),
        tzinfo=UTC,
    )
    if sign == "0":
        return moment
    offset = timedelta(hours=int(zone_hours), minutes=int(zone_minutes))
    return moment - offset if sign == "+" else moment + offset


def _time_of_number(number: float) -> datetime | None:
    """Epoch time: its size tells the unit, for every time after 1973 and before 5138."""
    if number < 0:
        return None
    if number < 1e11:  # noqa: PLR2004 (seconds)
        return _EPOCH + timedelta(seconds=number)
    if number < 1e14:  # noqa: PLR2004 (milliseconds)
        return _EPOCH + timedelta(milliseconds=number)
    if number < 1e17:  # noqa: PLR2004 (microseconds)
        return _EPOCH + timedelta(microseconds=number)
    return _EPOCH + timedelta(microseconds=number // 1000)


def as_list(value: object) -> list[Any]:
    """The value as a list: None is empty, a list is itself, anything else is a list of one."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def as_text(value: object) -> str:
    """The value as text: None is empty, ``{"value": x}`` is x, a list is its items joined by lines, a number its digits.

    Any other object is its JSON: nothing that a vendor says is dropped for standing in an unusual shape.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, dict) and "value" in value:
        return as_text(value["value"])
    if isinstance(value, list):
        return "\n".join(text for item in value if (text := as_text(item)))
    return msgspec.json.encode(value).decode()
