from __future__ import annotations

from xdr_mcp.server.told import ToldIds


def test_the_memory_of_what_was_told_is_bounded_and_forgets_the_oldest() -> None:
    told = ToldIds(most=2)
    told.note("", ["xdr/1", "xdr/2", "xdr/3"])
    assert [f"xdr/{number}" in told for number in (1, 2, 3)] == [False, True, True]
    told.note("", ["xdr/2", "xdr/4"])
    assert [f"xdr/{number}" in told for number in (2, 3, 4)] == [True, False, True]


def test_what_the_question_names_is_not_what_the_server_named() -> None:
    told = ToldIds()
    for question in ('{"query":"ABC-7"}', '{"query":"id:A*"}', '{"query":"ID = \\"a\\""}', '{"id":"xdr/abc-7"}'):
        told.note(question, ["xdr/abc-7"])
        assert "xdr/abc-7" not in told
    told.note('{"query":"host:web"}', ["xdr/abc-7"])
    assert "xdr/abc-7" in told
