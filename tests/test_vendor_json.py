"""Reading vendors' JSON: one bad record costs itself and nothing else."""

from __future__ import annotations

import json
import tracemalloc
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from xdr_mcp.alert import Alert
from xdr_mcp.errors import BadResponse, TooLarge
from xdr_mcp.vendor_json import (
    DEEPEST_NESTING,
    MOST_RECORDS,
    MOST_VALUES,
    as_list,
    as_text,
    excerpt,
    parse_time,
    split,
    to_page,
)

GOOD = b'{"id": "good"}'
NOW = datetime(2026, 3, 1, tzinfo=UTC)

POISON = {
    "a lone high surrogate": rb'{"id":"\ud800"}',
    "a lone low surrogate": rb'{"id":"\udc00 and more text behind it"}',
    "a surrogate in a key": rb'{"\ud800":1}',
    "NaN": b'{"score":NaN}',
    "Infinity": b'{"score":-Infinity}',
    "an integer of 5,000 digits": b'{"count":' + b"9" * 5000 + b"}",
    "a number out of range": b'{"count":1e999}',
    "2,000 levels of nesting": b'{"deep":' + b"[" * 2000 + b"]" * 2000 + b"}",
    "bytes that are not UTF-8": b'{"name":"\xff\xfe"}',
    "a bare control character": b'{"name":"a\nb"}',
    "an unknown escape": rb'{"name":"\q"}',
    "brackets that do not match": b'{"list":[1}}',
    "words without quotes": b"{name:value}",
    "a list": b"[1]",
    "a number": b"7",
    "null": b"null",
}


def body(*records: bytes) -> bytes:
    return b'{"value": [' + b" ,\n".join(records) + b'], "next": "page 2"}'


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON)
def test_a_poison_record_is_quarantined_alone_with_its_exact_bytes(poison: bytes) -> None:
    envelope = split(body(GOOD, poison, b'{"id":"after"}'), "value")

    assert [raw for raw, _ in envelope.records] == [GOOD, b'{"id":"after"}']
    assert [bad.raw for bad in envelope.quarantined] == [poison]
    assert envelope.quarantined[0].reason.isprintable()
    assert envelope.members == {"next": "page 2"}


@pytest.mark.parametrize(
    ("poison", "reason"),
    [
        ("a lone high surrogate", "surrogate"),
        ("NaN", "NaN"),
        ("2,000 levels of nesting", "levels deep"),
        ("an integer of 5,000 digits", "out of range"),
        ("a list", "not an object"),
    ],
)
def test_the_reason_names_what_is_wrong(poison: str, reason: str) -> None:
    (quarantined,) = split(body(POISON[poison]), "value").quarantined

    assert reason in quarantined.reason


def test_records_keep_their_own_bytes() -> None:
    records = (b'{ "b" : 1.50 , "a" : "\\u00e9" }', '{"name":"é","pair":"\\ud83d\\ude00"}'.encode())

    envelope = split(body(*records), "value")

    assert tuple(raw for raw, _ in envelope.records) == records
    assert envelope.records[1][1] == {"name": "é", "pair": "😀"}
    assert not envelope.quarantined


def test_an_escaped_backslash_before_a_u_is_no_surrogate() -> None:
    assert len(split(body(rb'{"path":"C:\\ud800"}', POISON["NaN"]), "value").records) == 1


def test_quotes_and_brackets_inside_strings_do_not_end_a_record() -> None:
    tricky = rb'{"command":"\"}],{\\","x":"]}"}'

    envelope = split(body(tricky, POISON["NaN"], GOOD), "value")

    assert [raw for raw, _ in envelope.records] == [tricky, GOOD]


@pytest.mark.parametrize(
    ("records", "count"), [(b"null", 0), (b"[]", 0), (b"[ ]", 0), (b'{"id":1}', 1), (b'[{"id":1},{"id":2}]', 2)]
)
def test_null_is_an_empty_list_and_a_single_object_a_list_of_one(records: bytes, count: int) -> None:
    assert len(split(b'{"data":' + records + b"}", "data").records) == count


def test_a_byte_order_mark_is_stepped_over() -> None:
    assert len(split(b"\xef\xbb\xbf" + body(GOOD), "value").records) == 1


def test_nesting_is_bounded_alike_however_deep_the_reader_stands() -> None:
    def nested(levels: int) -> bytes:
        return b'{"a":' * levels + b"1" + b"}" * levels

    envelope = split(body(nested(DEEPEST_NESTING), nested(DEEPEST_NESTING + 1)), "value")

    assert [raw for raw, _ in envelope.records] == [nested(DEEPEST_NESTING)]
    assert [bad.raw for bad in envelope.quarantined] == [nested(DEEPEST_NESTING + 1)]


def test_a_wide_record_is_not_taken_for_a_deep_one() -> None:
    wide = json.dumps({"list": [{"inner": [index]} for index in range(1000)]}).encode()

    assert len(split(body(wide), "value").records) == 1


def test_a_poison_item_of_another_list_is_quarantined_alone() -> None:
    envelope = split(b'{"data":[{"id":1}],"included":[{"x":NaN},{"id":2}]}', "data")

    assert envelope.members == {"included": [{"id": 2}]}
    assert [bad.raw for bad in envelope.quarantined] == [b'{"x":NaN}']
    assert len(envelope.records) == 1


def test_an_unreadable_member_refuses_the_page_because_a_next_link_may_stand_in_it() -> None:
    with pytest.raises(BadResponse, match="'links' cannot be read"):
        split(b'{"data":[{"id":1}],"links":{"next":"\\ud800"}}', "data")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"<!DOCTYPE html><title>Sign in</title>", "not JSON.*“<!DOCTYPE html><title>Sign in</title>”"),
        (b"[1, 2]", "not an object"),
        (b'"text"', "not an object"),
        (b'{"error":{"code":"x"}}', 'no \'value\'.*“{"error":{"code":"x"}}”'),
        (b'{"value":"x"}', "not a list"),
        (b'{"value":[{"id":1},{"id":"a', 'cut short after 27 bytes.*{"id":"a”'),
        (b'{"value":[{"id":1},', "cut short"),
        (b'{"value":[{"id":1}]', "cut short"),
        (b'{"value":[],"next":"http', "cut short"),
        (b'{"value"', "cut short"),
        (b'{"value":[{"id":1}]} and more', "not JSON"),
        (b'{"value":[{"id":1}{"id":2}]}', "not JSON"),
        (b'{"value":[{"id":1},]}', "not JSON"),
        (b'{"value":[NaN],"\\ud800":1}', "name cannot be read"),
    ],
)
def test_what_is_no_page_is_refused_with_a_look_at_it(answer: bytes, message: str) -> None:
    with pytest.raises(BadResponse, match=message) as caught:
        split(answer, "value")
    assert str(caught.value).isprintable()


def test_an_excerpt_is_short_and_holds_no_control_characters() -> None:
    shown = excerpt(b"\x1b[31mred\x00\r\n" + "\u202egnp.exe\u200b ".encode() + b"x" * 10_000)

    assert shown.startswith("“[31mred gnp.exe x")
    assert shown.isprintable()
    assert len(shown) < 130


HOSTILE = {
    "opening brackets": b'{"value":[' + b"[" * 3_000_000,
    "quotes": b'{"value":[' + b'"' * 3_000_000,
    "escaped quotes": b'{"value":["' + b'\\"' * 1_500_000,
    "unterminated strings": b'{"value":[ ' + b'"\\" ' * 750_000,
    "backslashes": b'{"value":["' + b"\\" * 3_000_000,
    "blanks": b'{"value":[' + b" " * 3_000_000,
    "keys": b'{"value":[NaN],' + b'"a" ' * 750_000,
    "closing brackets": b'{"value":[[' + b"]" * 3_000_000,
    "surrogates": b'{"value":["' + rb"\ud800" * 500_000,
    "minus signs": b'{"value":[' + b"-" * 3_000_000,
}


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_answer_is_read_in_one_pass(answer: bytes) -> None:
    """Anything that looked at each byte twice from each place would run for hours here: the runner's limit is the bound."""
    with pytest.raises(BadResponse):
        split(answer, "value")


def test_an_answer_that_would_explode_in_memory_is_refused_before_it_does() -> None:
    answer = b'{"value":[' + b"[]," * MOST_VALUES + b"{}]}"

    tracemalloc.start()
    try:
        with pytest.raises(TooLarge, match="values"):
            split(answer, "value")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def test_an_answer_of_more_records_than_anybody_asks_for_is_too_large() -> None:
    with pytest.raises(TooLarge, match="records"):
        split(b'{"value":[' + b"{}," * MOST_RECORDS + b"{}]}", "value")


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(st.dictionaries(st.text(), JSON, max_size=5), max_size=5), st.booleans())
def test_the_tolerant_scan_finds_the_same_records_as_the_decoder(
    records: list[dict[str, Any]],
    non_ascii: bool,  # noqa: FBT001
) -> None:
    texts = [json.dumps(record, ensure_ascii=non_ascii).encode("utf-8", "surrogatepass") for record in records]
    decoded = [record for record in texts if _is_encodable(record)]

    fast, tolerant = split(body(*decoded), "value"), split(body(*decoded, b"NaN"), "value")

    assert [raw for raw, _ in fast.records] == decoded
    assert tolerant.records == fast.records
    assert [bad.raw for bad in tolerant.quarantined] == [b"NaN"]


MARKS = (b"", b",", b"]", b"[", b"{", b"}", b'"', b" ", b"NaN", rb"\ud800", b"\xff", b'],"value":[')


@given(st.lists(JSON, max_size=3), st.dictionaries(st.text(), JSON, max_size=2), st.sampled_from(MARKS), st.integers(0))
@example([{"id": 1}], {"value": 2}, b"", 0)
@example([{"id": "]"}], {"next": '"]'}, b"", 0)
@example([], {}, b",", 1)
def test_a_list_that_comes_first_is_split_as_one_that_does_not(
    records: list[Any], others: dict[str, Any], mark: bytes, place: int
) -> None:
    members = b"".join(b"," + msgspec.json.encode({name: value})[1:-1] for name, value in others.items())
    rest = msgspec.json.encode(records)[1:] + members + b"}"
    place %= len(rest) + 1
    rest = rest[:place] + mark + rest[place:]

    def outcome(beginning: bytes) -> object:
        try:
            envelope = split(beginning + rest, "value")
        except BadResponse as refused:
            return type(refused)
        return envelope.records, envelope.quarantined, envelope.members

    assert outcome(b'{"value":[') == outcome(b'{ "value":[')


def _is_encodable(record: bytes) -> bool:
    try:
        msgspec.json.decode(record)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return True


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_split_or_refused_and_every_record_can_be_encoded_again(noise: bytes) -> None:
    try:
        envelope = split(b'{"value":[' + noise + b"]}", "value")
    except BadResponse as refused:
        assert str(refused).isprintable()  # noqa: PT017 (both outcomes are right)
    else:
        for _, record in envelope.records:
            msgspec.json.encode(record)


# ---------------------------------------------------------------- pages


def normalise(record: dict[str, Any]) -> Alert:
    if record["id"] == "refused":
        raise ValueError("no such\x1b severity")
    created = parse_time(record["created"]) or NOW
    return Alert(source="acme", vendor_id=record["id"], title=record["title"].strip(), created=created, updated=created)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b'{"created":0,"title":""}', "KeyError: 'id'"),
        (b'{"id":"1","created":0,"title":7}', "AttributeError"),
        (b'{"id":[],"title":"t"}', "KeyError: 'created'"),
        (b'{"id":"refused"}', "ValueError: no such severity"),
    ],
)
def test_a_record_that_cannot_be_normalised_is_quarantined_alone(record: bytes, reason: str) -> None:
    good = b'{"id":"1","created":"2026-01-01T00:00:00Z","title":"t"}'

    page = to_page(split(body(good, record, POISON["NaN"]), "value"), normalise, NOW)

    assert [kept.raw for kept in page.records] == [good]
    assert page.fetched == NOW
    assert {bad.raw for bad in page.quarantined} == {record, POISON["NaN"]}
    assert any(reason in bad.reason for bad in page.quarantined)


# ---------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05+00:00"),
        ("2026-01-02T03:04:05.6Z", "2026-01-02T03:04:05.600000+00:00"),
        ("2026-01-02T03:04:05.678Z", "2026-01-02T03:04:05.678000+00:00"),
        ("2026-01-02T03:04:05.678901Z", "2026-01-02T03:04:05.678901+00:00"),
        ("2026-01-02T03:04:05.6789019Z", "2026-01-02T03:04:05.678901+00:00"),
        ("2026-01-02T03:04:05.678901999Z", "2026-01-02T03:04:05.678901+00:00"),
        ("2026-01-02T03:04:05.678901ZZ", "2026-01-02T03:04:05.678901+00:00"),
        ("2026-01-02T03:04:05.6789019ZZ", "2026-01-02T03:04:05.678901+00:00"),
        ("2026-01-02T03:04:05.000+0000", "2026-01-02T03:04:05+00:00"),
        ("2026-01-02T03:04:05+05:30", "2026-01-01T21:34:05+00:00"),
        ("2026-01-02T03:04:05-0800", "2026-01-02T11:04:05+00:00"),
        ("2026-01-02T03:04:05 -08:00", "2026-01-02T11:04:05+00:00"),
        ("2026-01-02T03:04:05-08", "2026-01-02T11:04:05+00:00"),
        ("2026-01-02 03:04:05", "2026-01-02T03:04:05+00:00"),
        ("2026-01-02 03:04:05 UTC", "2026-01-02T03:04:05+00:00"),
        (" 2026-01-02T03:04:05\n", "2026-01-02T03:04:05+00:00"),
        ("2026-01-02", "2026-01-02T00:00:00+00:00"),
        (1767323045, "2026-01-02T03:04:05+00:00"),
        (1767323045.25, "2026-01-02T03:04:05.250000+00:00"),
        (1767323045678, "2026-01-02T03:04:05.678000+00:00"),
        (1767323045678901, "2026-01-02T03:04:05.678901+00:00"),
        (1767323045678901234, "2026-01-02T03:04:05.678901+00:00"),
        ("1767323045678", "2026-01-02T03:04:05.678000+00:00"),
        ("1767323045.5", "2026-01-02T03:04:05.500000+00:00"),
        (0, "1970-01-01T00:00:00+00:00"),
    ],
)
def test_a_time_is_read_in_every_form_vendors_write(value: object, expected: str) -> None:
    parsed = parse_time(value)

    assert parsed is not None
    assert parsed.isoformat() == expected
    assert parsed.tzinfo is UTC


@pytest.mark.parametrize(
    "value",
    [
        None, "", "  ", "yesterday", "2026", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-01-01T25:00:00Z",
        "2026-01-01T00:00:00+99:99", "0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00", "٢٠٢٦-01-01T00:00:00Z",
        "2026-01-02T03:04:05Z; drop table", "9" * 5000, True, False, -1, float("nan"), float("inf"), 1e300, 10**400,
        {}, [], {"value": 1767323045}, b"2026-01-02",
    ],
)  # fmt: skip
def test_what_is_no_time_is_none(value: object) -> None:
    assert parse_time(value) is None


@given(st.datetimes(min_value=datetime(1973, 6, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_a_moment_is_the_same_in_every_notation(moment: datetime) -> None:
    micros = int(moment.timestamp()) * 1_000_000 + moment.microsecond

    assert parse_time(moment.isoformat()) == moment
    assert parse_time(moment.isoformat().replace("+00:00", "ZZ")) == moment
    assert parse_time(micros) == moment
    assert parse_time(str(micros * 1000 + 999)) == moment


@given(st.one_of(st.text(), st.integers(), st.floats(), JSON))
def test_no_value_breaks_the_readers_of_values(value: object) -> None:
    parsed = parse_time(value)

    assert parsed is None or parsed.tzinfo is UTC
    assert isinstance(as_list(value), list)
    assert isinstance(as_text(value), str)


def test_a_list_is_itself_nothing_is_empty_and_anything_else_is_a_list_of_one() -> None:
    assert as_list(["a", "b"]) == ["a", "b"]
    assert as_list(None) == []
    assert as_list("a") == ["a"]
    assert as_list({"a": 1}) == [{"a": 1}]
    assert as_list("") == [""]
    assert as_list(0) == [0]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("text", "text"), (None, ""), ({"value": "NEW"}, "NEW"), ({"value": {"value": 3}}, "3"), (["a", None, "b"], "a\nb"),
        (7, "7"), (1.5, "1.5"), (True, "true"), ({"name": "x"}, '{"name":"x"}'), ([], ""), ({"value": None}, ""),
    ],
)  # fmt: skip
def test_a_value_in_any_shape_becomes_text(value: object, text: str) -> None:
    assert as_text(value) == text
