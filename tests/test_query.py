from __future__ import annotations

import re
import sys
import unicodedata
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from strategies import NOW, alerts, queries, quoted, texts

from xdr_mcp.alert import Alert, Attack, Entity, EntityKind, Severity, Status, Verdict
from xdr_mcp.errors import QueryError
from xdr_mcp.query import (
    FIELDS,
    VALUE_LIMIT,
    WORD_LIMIT,
    And,
    Comparison,
    FieldKind,
    Level,
    Moment,
    Not,
    Or,
    Pattern,
    Query,
    Term,
    Words,
    describe,
    fold,
    guide,
    literal,
    matcher,
    matches,
    parse,
    terms_of,
    texts_of,
    words_of,
)
from xdr_mcp.query.parser import MAX_CONDITIONS, MAX_DEPTH, MAX_LENGTH
from xdr_mcp.query.text import TEXT_LIMIT, _plain, column_of, line_of, value_of

GUIDE = Path(__file__).parent.parent / "docs" / "query-language.md"


def alert(**members: object) -> Alert:
    given_members = {"source": "xdr", "vendor_id": "7", "title": "", "created": NOW, "updated": NOW, **members}
    return Alert(**given_members)  # type: ignore[arg-type]


def asks_for(query: str, found: Alert) -> bool:
    return matches(parse(query, now=NOW), found)


def entity(kind: str, value: str) -> Alert:
    return alert(entities=(Entity(EntityKind(kind), value),))


def refusal(query: str) -> QueryError:
    with pytest.raises(QueryError) as raised:
        parse(query, now=NOW)
    return raised.value


def mistake_in(query: str) -> QueryError | None:
    try:
        parse(query, now=NOW)
    except QueryError as error:
        return error
    return None


RANSOM = alert(
    title="Ransomware behaviour on WEB-01",
    description="Files were encrypted; shadow copies deleted.",
    severity=Severity.HIGH,
    status=Status.IN_PROGRESS,
    verdict=Verdict.TRUE_POSITIVE,
    risk_score=80,
    count=12,
    product="Example XDR",
    rule_id="r-17",
    rule_name="Mass encryption",
    assignee="Zoë",
    labels=("vip", "tier 1"),
    attacks=(Attack(technique="T1059.001", technique_name="PowerShell", tactic="TA0002", tactic_name="Execution"),),
    entities=(
        Entity(EntityKind.HOST, "web-01.corp.example"),
        Entity(EntityKind.HOST, "db-07"),
        Entity(EntityKind.USER, "CORP\\alice"),
        Entity(EntityKind.IP, "10.1.2.3"),
        Entity(EntityKind.PROCESS, "C:\\Windows\\System32\\cmd.exe"),
        Entity(EntityKind.COMMAND, 'powershell -enc SQBFAFgA "quoted"'),
        Entity(EntityKind.URL, "https://evil.example/a,b?c=(d)"),
    ),
    created=NOW - timedelta(hours=2),
    updated=NOW - timedelta(minutes=5),
    first_seen=NOW - timedelta(days=1),
)


# ---------------------------------------------------------------- folding


@given(texts)
@example("İ")
@example("\u0345")
def test_folding_what_is_folded_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text)


def fold_whole(text: str) -> str:
    """As folding is defined: all of the text, until nothing changes."""
    while True:
        folded = " ".join("".join(map(_plain, unicodedata.normalize("NFKD", text).casefold())).split())
        if folded == text:
            return folded
        text = folded


@given(st.text(st.characters() | st.sampled_from("\u0345\u0301\u0327ᾳΰﷺ\u1160각 ") | st.characters(categories=["M"])))
def test_text_is_folded_character_by_character_as_it_is_folded_whole(text: str) -> None:
    assert fold(text) == fold_whole(text)


def test_every_character_is_folded_beside_others_as_it_is_folded_whole() -> None:
    characters = "".join(map(chr, range(sys.maxunicode + 1)))
    assert fold(characters) == fold_whole(characters)


def test_characters_that_change_places_leave_nothing_or_the_same_letter() -> None:
    """So that it does not matter what stands beside them."""
    moving = [character for character in map(chr, range(sys.maxunicode + 1)) if unicodedata.combining(character)]
    assert {fold(character) for character in moving} == {"", "\N{GREEK SMALL LETTER IOTA}"}


@settings(deadline=None)
@given(
    st.lists(
        texts | st.sampled_from(["ﷺ" * 300, " " * 5_000, "\u200b" * 5_000, "é" * 4_000, "x" * 4_095]), max_size=3
    ).map("".join)
)
def test_a_value_is_what_is_folded_of_all_its_text(text: str) -> None:
    assert value_of(text) == fold_whole(text)[:VALUE_LIMIT].rstrip()


@settings(deadline=None)
@given(
    st.lists(texts | st.sampled_from(["ﷺ. " * 2_000, "-" * 33_000, "é " * 8_000, "y" * 31_999]), max_size=3).map(
        "".join
    )
)
def test_a_column_holds_what_is_folded_of_all_its_text(text: str) -> None:
    assert column_of(text) == line_of(text)[:TEXT_LIMIT].rstrip()


def test_every_character_folds_to_a_fixed_point() -> None:
    characters = "".join(map(chr, range(sys.maxunicode + 1)))
    for start in range(0, len(characters), 1_000):
        folded = fold(characters[start : start + 1_000])
        assert fold(folded) == folded


@given(texts)
def test_folded_text_is_safe_to_keep(text: str) -> None:
    folded = fold(text)
    folded.encode("utf-8")
    assert not [
        character for character in folded if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Mn", "Mc", "Me"}
    ]
    assert folded == " ".join(folded.split())


@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_is_folded_as_other_text_is(text: str) -> None:
    assert fold(f"{text} é") == f"{fold(text)} e".strip()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("CAFÉ", "cafe\u0301"),
        ("Straße", "STRASSE"),
        ("\uff23\uff21\uff26\uff25", "cafe"),
        ("ran\u200bsom\u00adware", "ransomware"),
        ("a\x00b", "a b"),
        (" a \t\n b ", "a b"),
        ("İstanbul", "istanbul"),
    ],
)
def test_what_looks_alike_folds_alike(one: str, other: str) -> None:
    assert fold(one) == fold(other)


@given(texts)
def test_words_are_read_back_by_a_tokenizer_that_separates_at_ascii_only(text: str) -> None:
    words = words_of(text)
    assert [word for word in re.split(r"[\x00-/:-@\[-`{-\x7f]+", " ".join(words)) if word] == list(words)
    assert words_of(" ".join(words)) == words


@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_text_has_the_words_that_text_of_any_script_has(text: str) -> None:
    assert words_of(text) == words_of(f"{text} \N{BULLET}") == tuple(re.findall("[a-z0-9]+", text.lower()))


@given(alerts())
def test_text_columns_hold_folded_words_and_nothing_else(drawn: Alert) -> None:
    columns = dict(texts_of(drawn))
    assert list(columns) == ["title", "description", "other"]
    for text in columns.values():
        assert " ".join(words_of(text)) == text


@given(alerts())
def test_terms_are_folded_known_and_told_once(drawn: Alert) -> None:
    terms = terms_of(drawn)
    assert len(set(terms)) == len(terms)
    for field, value in terms:
        assert FIELDS[field].kind is FieldKind.KEYWORD
        assert value
        assert fold(value) == value


def test_long_values_are_cut_and_still_found() -> None:
    long = alert(labels=("x" * 100_000,), title="y" * 100_000, description="word " * 100_000)
    assert all(len(value) <= VALUE_LIMIT for _, value in terms_of(long))
    assert max(map(len, dict(texts_of(long))["title"].split())) == WORD_LIMIT
    assert asks_for("label:" + "x" * 3_900 + "*", long)
    assert asks_for("title:" + "y" * 3_900, long)
    assert sum(len(text) for _, text in texts_of(long)) < 100_000


# ---------------------------------------------------------------- what a query finds


@pytest.mark.parametrize(
    "query",
    [
        "",
        "  ",
        "*",
        "severity>=high and host:web* and not status:resolved",
        "SEVERITY >= High AND HOST : WEB* AND NOT STATUS:RESOLVED",
        "sev:high hostname:db-07 username:alice src_ip:10.1.2.3",
        "host.name:db-07 user.name:alice process.name:cmd.exe event.severity:4 threat.technique.id:T1059.001",
        "hosts:web-01",
        "host:web-01",
        "host:web-01.corp.example",
        "host:(nowhere or db*)",
        "host:nowhere,db-07",
        "host:nowhere, db-07 severity:high",
        "host:(web* and db*)",
        "host:(not nowhere)",
        "host!=nowhere",
        "host!=(nowhere or elsewhere)",
        "host:!nowhere",
        "-host:nowhere !user:bob not ip:10.9.9.9",
        "not not host:db-07",
        "nothing or host:db-07 severity:high",
        "(nothing or host:db-07) and severity:high",
        "nothing || severity:high && host:db-07",
        r"user:CORP\alice",
        r'user:"CORP\\alice"',
        r"user:corp\*",
        r"process:C:\Windows\*",
        r"process:*\system32\*.exe",
        'command:*"-enc "*',
        r'command:*"\"quoted\""',
        "command:(*enc* or -enc)",
        'url:"https://evil.example/a,b?c=(d)"',
        "url:https://evil.example/*",
        "entity:10.1.2.3 entity:alice entity:web-01",
        "ip:10.0.0.0/8",
        "ip:10.1.2.0/29",
        "ip:0.0.0.0/0",
        "ip:192.168.0.0/16,10.1.0.0/16",
        "technique:T1059",
        "technique:t1059.001",
        "technique:T1059*",
        "technique:powershell",
        "mitre:T1059 tactic:ta0002 tactic:execution",
        "rule:r-17 rule:mass*",
        'label:"tier 1" label:vip,other',
        "id:7 id:xdr/7 source:xdr",
        "assignee:zoe",
        "assignee:*",
        'tenant:""',
        "not tenant:*",
        "status:open",
        "status:in-progress",
        'status:"in progress"',
        "status!=closed",
        "status:*",
        "verdict:tp",
        "severity>medium severity<critical severity<=high severity!=low severity=4",
        "risk_score>=80 risk<=80 risk:80 risk_score:*",
        "not confidence:*",
        "not confidence<=100",
        "confidence!=50",
        "count>10",
        "since:-3h until:-1h",
        "since:now-3h",
        "since:today",
        "created:2026-07-01 created:today created!=yesterday",
        "created>=2026-07-01 created<=2026-07-01",
        "created:2026-07-01T10:00Z",
        "created:2026-07-01T12:00+02:00",
        'created:"2026-07-01 10:00:00"',
        "updated>-30m",
        "first_seen:* not last_seen:*",
        "ransomware",
        "RANSOM*",
        '"behaviour on web"',
        "web-01",
        "web-0*",
        '"shadow cop"*',
        "title:ransomware description:encrypted",
        'description:"files were"',
        "title:(foo or behaviour)",
        'text:"mass encryption"',
        "T1059.001",
        "10.1.2.3",
        "“behaviour on”",
        "'behaviour on'",
        "zoë",
    ],
)
def test_a_query_finds_the_alert(query: str) -> None:
    assert asks_for(query, RANSOM)


@pytest.mark.parametrize(
    "query",
    [
        "severity>=critical",
        "host:web",
        "host:eb*",
        'host:"web*"',
        "host:w?b*",
        "host!=web*",
        "host:(web* and nowhere)",
        "host!=(nowhere or web*)",
        "nothing and severity:high",
        "severity:high nothing",
        "not (nothing or severity:high)",
        "ip:10.1.2.30",
        "ip:10.1.2.*.4",
        "ip:11.0.0.0/8",
        "ip:10.1.2.4/30",
        "technique:T1059.002",
        "technique:T105",
        "tenant:*",
        'assignee:""',
        "status:closed",
        "status:new",
        "confidence:*",
        "confidence>=0",
        "last_seen<now",
        "since:-1h",
        "until:-3h",
        "created:yesterday",
        "created<2026-07-01",
        "created>2026-07-01",
        "ransom",
        "ansomware",
        '"ransom"',
        '"web behaviour"',
        "description:ransomware",
        '"encrypted files"',
        '"01 files"',
        "verdict:fp",
    ],
)
def test_a_query_does_not_find_the_alert(query: str) -> None:
    assert not asks_for(query, RANSOM)


def test_and_binds_more_tightly_than_or() -> None:
    assert parse("a or b c", now=NOW).root == Or((Words(("a",)), And((Words(("b",)), Words(("c",))))))


def test_a_field_with_several_values_differs_from_a_value_only_when_none_is_that_value() -> None:
    assert not asks_for("host!=db-07", RANSOM)
    assert asks_for("host!=db-08", RANSOM)


@given(texts)
def test_a_quoted_value_finds_exactly_the_value(text: str) -> None:
    assume(fold(text))
    assert asks_for(f"label:{quoted(text)}", alert(labels=(text,)))
    assert not asks_for(f"label:{quoted(text)}", alert(labels=(f"{text}x",)))


@given(
    st.lists(st.sampled_from(["a", "b", "ab", "*", "?", "[", "%", "_"]), max_size=8).map("".join),
    st.text("ab?[%_", max_size=8),
)
def test_wildcards_match_as_a_regular_expression_would(pattern: str, value: str) -> None:
    assume(pattern and value)
    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), value) is not None
    assert asks_for(f"label:{pattern}", alert(labels=(value,))) is expected


def test_a_pattern_made_to_backtrack_is_answered_at_once() -> None:
    pattern = Pattern(("", *["a" * 20] * 100, "b"))
    assert not pattern.matches("a" * 1_000_000)
    assert pattern.matches("a" * 1_000_000 + "b")


def test_many_queries_are_asked_about_one_alert() -> None:
    ask = matcher(RANSOM)
    assert [ask(parse(query, now=NOW)) for query in ("severity:high", "severity:low", "*")] == [True, False, True]


@given(alerts(), queries)
@example(RANSOM, 'ip:"a/b"')
def test_a_negated_query_finds_what_the_query_does_not(drawn: Alert, query: str) -> None:
    assert asks_for(f"not ({query})", drawn) is not asks_for(query, drawn)


# ---------------------------------------------------------------- times


@pytest.mark.parametrize(
    ("query", "start", "end"),
    [
        ("created:2026-01-31", "2026-01-31T00:00:00", "2026-02-01T00:00:00"),
        ("created:2026-01-31T08:15Z", "2026-01-31T08:15:00", "2026-01-31T08:16:00"),
        ("created:2026-01-31T08:15:30", "2026-01-31T08:15:30", "2026-01-31T08:15:31"),
        ("created:2026-01-31T08:15:30.25+05:30", "2026-01-31T02:45:30.250000", "2026-01-31T02:45:30.260000"),
        ("created:2026-01-31T08:15:30.1234567Z", "2026-01-31T08:15:30.123456", "2026-01-31T08:15:30.123457"),
        ("created:yesterday", "2026-06-30T00:00:00", "2026-07-01T00:00:00"),
    ],
)
def test_a_time_lasts_as_long_as_it_is_precise(query: str, start: str, end: str) -> None:
    first, after = (datetime.fromisoformat(moment).replace(tzinfo=UTC) for moment in (start, end))
    assert parse(query, now=NOW).root == And(
        (Moment("created", Comparison.GE, first), Moment("created", Comparison.LT, after))
    )


def test_relative_times_count_from_the_given_moment() -> None:
    assert parse("updated>=-90s", now=NOW).root == Moment("updated", Comparison.GE, NOW - timedelta(seconds=90))
    assert parse("since:-2w", now=NOW).root == Moment("created", Comparison.GE, NOW - timedelta(weeks=2))


def test_the_day_is_that_of_utc_wherever_now_is() -> None:
    elsewhere = datetime.fromisoformat("2026-07-02T01:00:00+05:00")
    assert parse("since:today", now=elsewhere).root == Moment(
        "created", Comparison.GE, datetime(2026, 7, 1, tzinfo=UTC)
    )


def test_a_moment_without_a_zone_is_not_counted_from() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        parse("since:-1h", now=datetime(2026, 7, 1))  # noqa: DTZ001 (that is the point)


@pytest.mark.parametrize(
    "written",
    ["soon", "2026-02-30", "2026-13-01", "9999-12-31", "0001-01-01T00:00+05:00", "-999999w", "24", "2026-01-01T25:00"],
)
def test_what_is_no_time_is_refused(written: str) -> None:
    error = refusal(f"created>={written}")
    assert "is no time" in error.reason
    assert error.query[error.start : error.end] == written


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("query", "marked", "reason", "corrected"),
    [
        ("hots:web*", "hots", "did you mean host?", "host:web*"),
        ("severity=>high", "=>", "=> is written >=", "severity>=high"),
        ("risk_score=<5 host:a", "=<", "=< is written <=", "risk_score<=5 host:a"),
        ("host:a | where user:b", "|", "no pipes", "host:a   user:b"),
        ("| host:a", "|", "no pipes", "host:a"),
        ("sev:hgh", "hgh", "one of unknown, informational, low, medium, high, critical", "sev:high"),
        ("status:-resolved", "-resolved", "one of", "not status:resolved"),
        (
            "host:web* and statsu:new and sev:hihg",
            "statsu",
            "did you mean status",
            "host:web* and status:new and sev:high",
        ),
        ("https://evil.example/x", "https", "put text that holds ':' in quotes", '"https://evil.example/x"'),
        (r"C:\Windows", "C", "no field 'C'", r'"C:\\Windows"'),
        ("host:", "host:", "no value", "host:web*"),
        ("host: and sev:high", "host: ", "no value", "host:web* and sev:high"),
        ("host:a,", "host:a,", "no value", "host:web*"),
        ("sev:high and", "and", "nothing to look for after 'and'", "sev:high"),
        ("or sev:high", "or", "nothing to look for before this 'or'", "sev:high"),
        ("a and or b", "or", "before this 'or'", "a and b"),
        ("(a or b", "(", "never closed", "(a or b)"),
        ("a or b)", ")", "closes nothing", "a or b"),
        ("a ()", "()", "nothing between", "a"),
        ('host:"web 1', '"', "never closed", 'host:"web 1"'),
        ("host:(a b)", "b)", "between two values", "host:(a or b)"),
        ("host>web", "web", "has no order", "host:web*"),
        ("since>-24h", "-24h", "has no order", "since:-24h"),
        ("created:-24h", "-24h", "one instant", "created>=-24h"),
        ("severity:hi*", "hi*", "takes no wildcard", "severity>=high"),
        ("risk_score>lots", "lots", "whole number", "risk_score>=80"),
        ("count>" + "9" * 30, "9" * 30, "larger than count ever gets", "count>100"),
        ("*ware", "*ware", "only goes at the end", '"ware"*'),
        ("title:ran*ware", "ran*ware", "only goes at the end", 'title:"ware"*'),
        ("title:*", "*", "no letter or digit", "title:ransom*"),
        ("foo(bar)", "(", "goes in quotes", '"foo(bar)"'),
        (">= 5", ">=", "a field goes before '>='", "severity>=high"),
        ("<script>", "<", "a field goes before '<'", '"<script>"'),
        ("ip:10.0.0.0/99", "10.0.0.0/99", "no network", "ip:10.0.0.0/8"),
        ("ip:2001:db8::/32", "2001:db8::/32", "IPv4 only; use a wildcard", "ip:2001:db8:*"),
    ],
)
def test_a_mistake_is_marked_explained_and_corrected(query: str, marked: str, reason: str, corrected: str) -> None:
    error = refusal(query)
    assert error.query[error.start : error.end] == marked
    assert reason in error.reason
    assert error.example == corrected


def test_an_unknown_field_is_answered_with_all_fields() -> None:
    assert ", ".join(FIELDS) in refusal("colour:red").reason


@given(
    st.one_of(
        texts, st.lists(st.sampled_from(list("ab*:\"'()<>=!-, \\/.&|")) | texts | queries, max_size=8).map("".join)
    )
)
@example("(" * 2_000)
@example("not " * 900 + "a")
@example("a:" * 1_000)
@example('"' * 999)
@example("and *")
@example("“")
def test_every_query_parses_or_is_refused_with_an_example_that_parses(query: str) -> None:
    if error := mistake_in(query):
        assert error.reason
        assert parse(error.example, now=NOW).root is not None
        error.render().encode("utf-8")


@given(queries, st.data())
def test_a_query_cut_anywhere_parses_or_is_refused_with_an_example_that_parses(query: str, data: st.DataObject) -> None:
    if error := mistake_in(query[: data.draw(st.integers(0, len(query)))]):
        assert parse(error.example, now=NOW).root is not None


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 1_500])
def test_deep_parentheses_are_refused(depth: int) -> None:
    assert "deep" in refusal("(" * depth + "a" + ")" * depth).reason
    assert "deep" in refusal("host:" + "(" * depth + "a" + ")" * depth).reason


def test_parentheses_may_go_as_deep_as_the_limit() -> None:
    assert parse("(" * MAX_DEPTH + "a" + ")" * MAX_DEPTH, now=NOW).root == Words(("a",))


def test_a_query_of_too_many_characters_is_refused() -> None:
    error = refusal("a" * 1_000_000)
    assert str(MAX_LENGTH) in error.reason
    assert len(error.render()) < 1_000


def test_a_query_of_too_many_conditions_is_refused() -> None:
    assert str(MAX_CONDITIONS) in refusal("a " * (MAX_CONDITIONS + 1)).reason
    assert str(MAX_CONDITIONS) in refusal("ip:10.0.0.0/9,11.0.0.0/9,12.0.0.0/9").reason


# ---------------------------------------------------------------- one spelling


@given(queries, alerts())
def test_a_described_query_finds_the_same_alerts(query: str, drawn: Alert) -> None:
    parsed = parse(query, now=NOW)
    again = parse(describe(parsed), now=NOW + timedelta(days=400))
    assert matches(again, drawn) is matches(parsed, drawn)
    assert describe(again) == describe(parsed)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("host:Web-01 and sev>=high", "severity >= HIGH hostname:web-01"),
        ("a or b or a", "(b) or a"),
        ("not not x", "x"),
        ("status:!resolved", "-status:resolved"),
        ("host:a,b", "host:(b or a)"),
        ("  ", "*"),
        ("(a and b) and c", "c b a"),
    ],
)
def test_two_spellings_of_one_question_are_described_alike(one: str, other: str) -> None:
    assert describe(parse(one, now=NOW)) == describe(parse(other, now=NOW))


@example("and")
@example("a\x00b")
@example("-5")
@example('say "x\\')
@example("web*")
@given(texts)
def test_a_value_that_is_written_as_literal_means_just_that(value: str) -> None:
    assume(fold(value))
    assert parse(f"user:{literal(value)}", now=NOW).root == Term("user", Pattern((fold(value),)))
    assert parse(f"user:{literal('')}", now=NOW) == parse('user:""', now=NOW)


def test_comparisons_of_a_hand_made_query_are_described_too() -> None:
    made = Query(
        "",
        And(
            (
                Level("count", Comparison.NE, 3),
                Moment("last_seen", Comparison.LE, NOW),
                Not(Term("host", Pattern(("a*", "")))),
            )
        ),
    )
    again = parse(describe(made), now=NOW)
    for found in (
        alert(count=3, last_seen=NOW),
        alert(last_seen=NOW),
        alert(),
        alert(last_seen=NOW + timedelta(seconds=1)),
    ):
        assert matches(again, found) is matches(made, found)


# ---------------------------------------------------------------- fields and their documentation


def test_every_name_belongs_to_one_field() -> None:
    names = [name for field in FIELDS.values() for name in (field.name, *field.aliases)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("field", FIELDS.values(), ids=lambda field: field.name)
def test_every_field_has_a_description_and_an_example_of_itself_that_parses(field: object) -> None:
    described = FIELDS[field.name]  # type: ignore[attr-defined]
    assert described.description
    assert re.match(rf"{described.name}(:|[<>])", described.example)
    parse(described.example, now=NOW)


def test_every_kind_of_entity_can_be_asked_for() -> None:
    for kind in EntityKind:
        assert asks_for(f"{kind}:value", entity(kind, "value"))


def test_the_guide_for_assistants_is_short_and_names_every_field() -> None:
    assert len(guide().encode()) <= 1_200
    for name in FIELDS:
        assert re.search(rf"\b{name}\b", guide())


def documented_fields() -> dict[str, tuple[str, str, str]]:
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| `` ?(.+?) ?`` \| (.*?) \|$", GUIDE.read_text("utf-8"), re.MULTILINE)
    return {name: (description, condition, aliases) for name, description, condition, aliases in rows}


def test_the_documentation_has_every_field_as_it_is() -> None:
    assert documented_fields() == {
        field.name: (field.description, field.example, ", ".join(f"`{alias}`" for alias in field.aliases))
        for field in FIELDS.values()
    }


def documented_queries() -> list[str]:
    blocks = re.findall(r"^```kql\n(.*?)^```", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line]


@pytest.mark.parametrize("query", documented_queries())
def test_every_documented_query_parses(query: str) -> None:
    assert parse(query, now=NOW).root is not None


def test_the_documented_mistake_is_answered_as_the_documentation_says() -> None:
    shown = re.findall(r"^```text\n(.*?)^```", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert shown == [f"{refusal('severity>=hihg and host:web*').render()}\n"]
