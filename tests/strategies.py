"""What hypothesis draws: alerts as hostile as vendors and attackers make them, and queries that have a chance to match."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from xdr_mcp.alert import Alert, Attack, Entity, EntityKind, Severity, Status, Verdict
from xdr_mcp.query import FIELDS, FieldKind

NOW = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)

# fmt: off (one word beside the other)
HOSTILE_TEXTS = (
    "web-01",
    "WEB-01.corp.example",
    "web*",
    "we?",
    "w[e]b",
    "100%",
    "a_b",
    "café",
    "cafe\u0301",
    "\uff23\uff21\uff26\uff25",
    "straße",
    "STRASSE",
    "İstanbul",
    "\u017fharp",
    "Σίσυφος",
    "ﬁle",
    "x\x00y",
    "a\u200bb",
    "\u202egpj.exe",
    "tab\there",
    "two  words",
    "",
    " ",
    "*",
    "**",
    '"quoted"',
    "back\\slash",
    "C:\\Windows\\System32\\cmd.exe",
    "/usr/bin/env",
    "CORP\\alice",
    "alice@corp.example",
    "10.1.2.3",
    "10.1.2.30",
    "2001:db8::1",
    "T1059.001",
    "t1059",
    "and",
    "or",
    "not",
    "(a)",
    "a,b",
    "-x",
    "!x",
    "=x",
    "😀",
    "日本語",
    "हिन्दी",
    "<script>alert(1)</script>",
    "'; drop table alerts; --",
    "powershell -enc SQBFAFgA",
    "“curly”",
    "lone \ud800 surrogate",
    "½ Ⅷ",
)
# fmt: on
"""Values that engines disagree about."""

_SNIPPETS = st.sampled_from(HOSTILE_TEXTS)
_ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=12)
texts = _SNIPPETS | _ANY_TEXT | st.lists(_SNIPPETS, max_size=3).map(" ".join)
"""Any text at all, lone surrogates and control characters included."""

storable_texts = texts.map(lambda text: text.encode("utf-8", "replace").decode())
"""Text that can leave the process as UTF-8."""

moments = st.one_of(
    st.sampled_from([NOW, NOW - timedelta(hours=1), NOW - timedelta(days=1), NOW.replace(hour=0)]),
    st.datetimes(datetime(2026, 6, 28), datetime(2026, 7, 2), timezones=st.just(UTC)),  # noqa: DTZ001 (the zone is given)
)
_percents = st.none() | st.integers(0, 100)


def alerts(values: st.SearchStrategy[str] = texts) -> st.SearchStrategy[Alert]:
    """Alerts whose every text is drawn from ``values``."""
    attacks = st.builds(
        Attack,
        technique=st.none() | st.sampled_from(["T1059", "T1059.001", "T1566", "t1486"]) | values,
        technique_name=st.none() | values,
        tactic=st.none() | st.sampled_from(["TA0002"]) | values,
        tactic_name=st.none() | values,
    )
    return st.builds(
        Alert,
        source=st.sampled_from(["xdr", "microsoft"]) | values,
        vendor_id=st.sampled_from(["1", "2"]) | values,
        title=values,
        created=moments,
        updated=moments,
        description=values,
        severity=st.sampled_from(Severity),
        status=st.sampled_from(Status),
        verdict=st.sampled_from(Verdict),
        risk_score=_percents,
        confidence=_percents,
        product=values,
        vendor=values,
        tenant=values,
        category=values,
        rule_id=values,
        rule_name=values,
        assignee=values,
        count=st.integers(0, 2**40),
        first_seen=st.none() | moments,
        last_seen=st.none() | moments,
        attacks=st.lists(attacks, max_size=2).map(tuple),
        entities=st.lists(st.builds(Entity, st.sampled_from(EntityKind), values), max_size=4).map(tuple),
        labels=st.lists(values, max_size=2).map(tuple),
        recommended_actions=st.lists(values, max_size=2).map(tuple),
        url=values,
    )


def quoted(text: str) -> str:
    """``text`` as a literal value of a query."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _named(*kinds: FieldKind) -> st.SearchStrategy[str]:
    fields = [field for field in FIELDS.values() if field.kind in kinds]
    return st.sampled_from([name for field in fields for name in (field.name, *field.aliases)])


def _conditions() -> st.SearchStrategy[str]:
    literal = texts.map(quoted)
    wildcard = st.lists(_SNIPPETS.map(lambda text: quoted(text[:3])), min_size=1, max_size=3).map("*".join)
    values = st.one_of(
        literal, wildcard.map("{}*".format), wildcard.map("*{}*".format), st.just("*"), literal.map("!{}".format)
    )
    groups = st.lists(values, min_size=1, max_size=3).map(" or ".join).map("({})".format)
    operators = st.sampled_from([":", "=", "!=", " : "])
    compared = st.sampled_from([":", "=", "!=", "<", "<=", ">", ">="])
    times = st.sampled_from(["2026-06-30", "2026-07-01T12:00Z", "2026-07-01T11:00:00.5+02:00", "today", "yesterday"])
    words = st.sampled_from(HOSTILE_TEXTS).filter(lambda text: any(c.isalnum() for c in text)).map(quoted)
    return st.one_of(
        st.tuples(_named(FieldKind.KEYWORD), operators, values | groups).map("".join),
        st.tuples(_named(FieldKind.RANK), compared, st.sampled_from([severity.value for severity in Severity])).map(
            "".join
        ),
        st.tuples(st.just("status"), operators, st.sampled_from([*Status, "open", "closed", "*"])).map("".join),
        st.tuples(st.just("verdict"), operators, st.sampled_from([*Verdict, "*"])).map("".join),
        st.tuples(_named(FieldKind.NUMBER), compared, st.integers(0, 100).map(str)).map("".join),
        st.tuples(_named(FieldKind.TIME), compared, times).map("".join),
        st.tuples(_named(FieldKind.TIME), st.sampled_from(["<", ">="]), st.sampled_from(["-30m", "now", "-1d"])).map(
            "".join
        ),
        st.sampled_from(["since:-24h", "until:-1h", "ip:10.0.0.0/8", "ip:10.1.2.0/27", "risk_score:*", "first_seen:*"]),
        words | words.map("{}*".format) | st.tuples(st.sampled_from(["title:", "description!="]), words).map("".join),
    )


def _combined(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.lists(parts, min_size=2, max_size=3).map(" and ".join),
        st.lists(parts, min_size=2, max_size=3).map(" or ".join),
        st.lists(parts, min_size=2, max_size=2).map(" ".join),
        parts.map("not ({})".format),
        parts.map("({})".format),
    )


queries = st.recursive(_conditions(), _combined, max_leaves=5)
"""Queries that parse."""
