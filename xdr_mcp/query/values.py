"""What one condition means: a field, a comparison and a value become a node, or are refused with what to write instead."""

from __future__ import annotations

import difflib
import ipaddress
import re
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from xdr_mcp.alert import Severity, Status, Verdict
from xdr_mcp.query.fields import Field, FieldKind
from xdr_mcp.query.nodes import Comparison, Level, Moment, Node, Pattern, Term, Words, all_of, any_of, opposite
from xdr_mcp.query.text import fold, value_of, words_of

_NETWORK = re.compile(r"\s*[0-9a-fA-F.:]+/[0-9.]+\s*")
_LARGEST = 10**15
"""No level reaches this; a store's integers go further."""

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_RELATIVE = re.compile(r"(?:now)?-?(\d{1,6})([smhdw])")
_ABSOLUTE = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)(?:[t ](?P<time>\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)(?P<zone> ?z|[+-]\d\d:?\d\d)?)?"
)
_SYNONYMS = {
    "info": "informational",
    "information": "informational",
    "med": "medium",
    "moderate": "medium",
    "crit": "critical",
    "fatal": "critical",
    "active": "in_progress",
    "inprogress": "in_progress",
    "fp": "false_positive",
    "tp": "true_positive",
}


class Refused(Exception):
    """The value does not fit. ``value`` is one that would, or ``instead`` a whole condition; else the field's example."""

    def __init__(self, reason: str, *, value: str = "", instead: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.value = value
        self.instead = instead


class Value(Struct, frozen=True):
    """A value as written: the literal pieces between its wildcards, quotes and escapes resolved."""

    pieces: tuple[str, ...]

    @property
    def text(self) -> str:
        """As one would say it, wildcards included."""
        return "*".join(self.pieces)

    @property
    def anything(self) -> bool:
        """A lone ``*``."""
        return len(self.pieces) > 1 and not any(self.pieces)

    @property
    def wild(self) -> bool:
        """It has a wildcard."""
        return len(self.pieces) > 1


def condition(field: Field, comparison: Comparison, value: Value, now: datetime) -> Node:
    """The node for ``field comparison value``, for every comparison but ``NE``, which is the opposite of ``EQ``.

    Raises:
        Refused: the field does not know the comparison, or the value is not one of its values.
    """
    ordered = field.kind in {FieldKind.RANK, FieldKind.NUMBER, FieldKind.TIME}
    if comparison is not Comparison.EQ and not ordered:
        raise Refused(f"{field.name} has no order: it takes : or = or !=, not {comparison}", instead=field.example)
    if value.wild and ordered and not (value.anything and comparison is Comparison.EQ):
        raise Refused(
            f"{field.name} is not text and takes no wildcard, only {field.name}:* for any", instead=field.example
        )
    match field.kind:
        case FieldKind.KEYWORD:
            return _keyword(field, value)
        case FieldKind.WORDS:
            return words(value, field)
        case FieldKind.CHOICE | FieldKind.RANK:
            return _choice(field, comparison, value)
        case FieldKind.NUMBER:
            return _number(field, comparison, value)
        case FieldKind.TIME | FieldKind.BOUND:
            return _time(field, comparison, value, now)


# ---------------------------------------------------------------- text


def _keyword(field: Field, value: Value) -> Node:
    if field.name == "ip" and not value.wild and _NETWORK.fullmatch(value.text):
        return _network(value.text)
    pattern = _pattern(value)
    if pattern.exact == "":
        return opposite(Term(field.name, Pattern(("", ""))))
    return Term(field.name, pattern)


def _pattern(value: Value) -> Pattern:
    if not value.wild:
        return Pattern((value_of(value.text),))
    # A guard on either side keeps a blank beside a wildcard, which folding alone would strip.
    first, *middle, last = (fold(f"x{piece}x")[1:-1] for piece in value.pieces)
    return Pattern((first.lstrip(), *filter(None, middle), last.rstrip()))


def _network(text: str) -> Node:
    """The addresses of an IPv4 network, as patterns on whole octets: ``10.0.0.0/8`` is ``10.*``, a /9 is 128 of them.

    Exact for addresses in their usual form, and as much a matter of text as any other pattern, so every store agrees.
    """
    try:
        network = ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        raise Refused(f"{_shown(text)} is no network", value="10.0.0.0/8") from None
    if not isinstance(network, ipaddress.IPv4Network):
        prefix = str(network.network_address).split("::")[0].rstrip(":")
        example = f"{prefix}:*" if prefix else "*:*"
        raise Refused("networks are understood for IPv4 only; use a wildcard for IPv6", value=example)
    octets = -(-network.prefixlen // 8)
    if octets == 0:
        return Term("ip", Pattern(("", ".", ".", ".", "")))
    patterns = []
    for part in network.subnets(new_prefix=octets * 8):
        address = ".".join(str(part.network_address).split(".")[:octets])
        patterns.append(Pattern((address,)) if octets == 4 else Pattern((f"{address}.", "")))  # noqa: PLR2004 (octets)
    return any_of(tuple(Term("ip", pattern) for pattern in patterns))


def words(value: Value, field: Field | None = None) -> Words:
    """Words side by side, the last perhaps only begun, in one text field or (None) anywhere.

    Raises:
        Refused: there is no word in it, or a wildcard elsewhere than at the end.
    """
    prefix = value.wild
    if len(value.pieces) > 2 or (prefix and value.pieces[-1]):  # noqa: PLR2004 (one wildcard makes two pieces)
        plain = max((words_of(piece) for piece in value.pieces), key=lambda found: sum(map(len, found)))
        shown = f'"{" ".join(plain)}"*' if plain else "ransom*"
        raise Refused("in text, * only goes at the end of a word", value=shown)
    found = words_of(value.pieces[0])
    if not found:
        raise Refused("there is no letter or digit to search text for", value="ransom*")
    # "web-*" asks for the word "web" whatever follows; only "web*" leaves the word itself open.
    prefix = prefix and words_of(f"{value.pieces[0]}x") != (*found, "x")
    return Words(found, prefix, None if field is None or field.name == "text" else field.name)


# ---------------------------------------------------------------- levels

_CHOICES: dict[str, dict[str, int]] = {
    "severity": {severity.value: severity.rank for severity in Severity},
    "status": {status.value: status.ocsf_id for status in Status},
    "verdict": {verdict.value: verdict.ocsf_id for verdict in Verdict},
}
_CLOSED = tuple(Level("status", Comparison.EQ, status.ocsf_id) for status in Status if status.closed)


def _choice(field: Field, comparison: Comparison, value: Value) -> Node:
    choices = _CHOICES[field.name]
    if value.anything:
        return opposite(Level(field.name, Comparison.EQ, 0))
    word = re.sub(r"[-\s]+", "_", fold(value.text))
    if field.name == "status" and word in {"open", "closed"}:
        closed = any_of(_CLOSED)
        return closed if word == "closed" else opposite(closed)
    word = _SYNONYMS.get(word, word)
    if word in choices:
        return Level(field.name, comparison, choices[word])
    if re.fullmatch(r"[0-9]", word) and int(word) in choices.values():
        return Level(field.name, comparison, int(word))
    known = [*choices, "open", "closed"] if field.name == "status" else [*choices]
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    reason = f"{field.name} has no value {_shown(value.text)}; it is one of {', '.join(known)}"
    if near and value.text.startswith("-"):
        raise Refused(reason, instead=f"not {field.name}:{near[0]}")
    raise Refused(reason, value=near[0] if near else "")


def name_of(field: str, number: int) -> str:
    """The word for a level's number: ``severity`` 4 is ``high``; a number without a word, in digits."""
    return next((word for word, level in _CHOICES.get(field, {}).items() if level == number), str(number))


def _number(field: Field, comparison: Comparison, value: Value) -> Node:
    if value.anything:
        return Level(field.name, Comparison.GE, 0)
    digits = fold(value.text)
    if not re.fullmatch(r"[+-]?[0-9]+", digits):
        raise Refused(f"{field.name} takes a whole number, not {_shown(value.text)}")
    number = int(digits[:20])
    if len(digits) > 20 or abs(number) >= _LARGEST:  # noqa: PLR2004 (digits enough to exceed the largest)
        raise Refused(f"{_shown(value.text)} is larger than {field.name} ever gets")
    return Level(field.name, comparison, number)


# ---------------------------------------------------------------- times

TIMES = "-30m, -24h, -7d, today, yesterday, 2026-01-31 or 2026-01-31T08:00Z"
"""How a time can be written."""

_INSTANT = timedelta(microseconds=1)


def _time(field: Field, comparison: Comparison, value: Value, now: datetime) -> Node:
    name = "created" if field.kind is FieldKind.BOUND else field.name
    if field.name == "since":
        comparison = Comparison.GE
    elif field.name == "until":
        comparison = Comparison.LE
    elif value.anything:
        return Moment(name, Comparison.GE, datetime.min.replace(tzinfo=UTC))
    written = fold(value.text)
    try:
        start, end = interval(written, now)
    except (ValueError, OverflowError):
        operator = ":" if field.kind is FieldKind.BOUND else ">="
        raise Refused(
            f"{_shown(value.text)} is no time; a time is {TIMES}",
            instead=f"{field.name}{operator}-24h",
        ) from None
    if comparison is Comparison.EQ and _RELATIVE.fullmatch(written):
        raise Refused(f"{_shown(written)} is one instant; say which side of it", instead=f"{field.name}>={written}")
    return _within(name, comparison, start, end)


def _within(field: str, comparison: Comparison, start: datetime, end: datetime) -> Node:
    """Compare with a time that lasts from ``start`` until before ``end``: a day, a minute, an instant."""
    not_before, before = Moment(field, Comparison.GE, start), Moment(field, Comparison.LT, end)
    match comparison:
        case Comparison.GE:
            return not_before
        case Comparison.GT:
            return Moment(field, Comparison.GE, end)
        case Comparison.LE:
            return before
        case Comparison.LT:
            return Moment(field, Comparison.LT, start)
        case _:
            return all_of((not_before, before))


def interval(text: str, now: datetime) -> tuple[datetime, datetime]:
    """The half-open interval a time stands for, in UTC. Raises ValueError or OverflowError where it is none."""
    now = now.astimezone(UTC)
    if text in {"today", "yesterday"}:
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=text == "yesterday")
        return midnight, midnight + timedelta(days=1)
    if text == "now":
        return now, now + _INSTANT
    if relative := _RELATIVE.fullmatch(text):
        start = now - timedelta(**{_UNITS[relative[2]]: int(relative[1])})
        return start, start + _INSTANT
    absolute = _ABSOLUTE.fullmatch(text)
    if absolute is None:
        raise ValueError(text)
    day, time, zone = absolute["day"], absolute["time"], (absolute["zone"] or "z").strip()
    whole, _, fraction = (time or "00:00").partition(".")
    start = datetime.fromisoformat(f"{day}T{whole}{f'.{fraction[:6]:<06}' if fraction else ''}{zone.upper()}")
    return start.astimezone(UTC), start.astimezone(UTC) + _precision(time)


def _precision(time: str | None) -> timedelta:
    """How long a time lasts that is written so: a day, a minute, a second, or the last digit of its fraction."""
    if time is None:
        return timedelta(days=1)
    whole, _, fraction = time.partition(".")
    if fraction:
        return timedelta(microseconds=10 ** max(0, 6 - len(fraction)))
    return timedelta(seconds=1) if whole.count(":") > 1 else timedelta(minutes=1)


# ---------------------------------------------------------------- messages


def _shown(text: str) -> str:
    """A value in a message: quoted, and not so long that it hides the message."""
    return f'"{text[:60]}…"' if len(text) > 60 else f'"{text}"'  # noqa: PLR2004 (what fits on a line)
