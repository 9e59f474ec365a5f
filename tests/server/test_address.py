from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdr_mcp.server.address import OneAlert, Recent, Search, Status, Topic, topic_of, uri_of

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


@given(st.one_of(st.builds(Search, _TEXT), st.builds(OneAlert, st.builds("{}/{}".format, st.just("xdr"), _TEXT))))
def test_a_uri_names_the_topic_it_was_made_for(topic: Topic) -> None:
    named = topic_of(uri_of(topic))
    assert named == (topic if topic != OneAlert("xdr/") else None)


@pytest.mark.parametrize(
    ("uri", "topic"),
    [
        ("xdr://alerts/recent", Recent()),
        ("xdr://status", Status()),
        ("xdr://alerts/xdr/A-1", OneAlert("xdr/A-1")),
        ("xdr://alerts/xdr%2FA-1", OneAlert("xdr/A-1")),
        ("xdr://alerts/xdr%2fA%2F..%2F..%00", OneAlert("xdr/A/../..\x00")),
        ("xdr://alerts/search", Search("")),
        ("xdr://alerts/search?q=host%3Aweb*", Search("host:web*")),
        ("xdr://alerts/search?q=title:a+b", Search("title:a+b")),
        ("xdr://alerts/search/hit", OneAlert("search/hit")),
        ("xdr://alerts/nosource", None),
        ("xdr://alerts/", None),
        ("xdr://alerts/xdr/A-1?x", None),
        ("xdr://alert/xdr/A-1", None),
        ("file:///etc/passwd", None),
        ("xdr://alerts/xdr/" + "A" * 40_000, None),
    ],
)
def test_uris_are_understood_in_every_spelling_and_others_name_nothing(uri: str, topic: Topic | None) -> None:
    assert topic_of(uri) == topic
