"""What SQLite is asked, and how it goes about it: counted, not timed, so that a regression fails without a clock."""

from __future__ import annotations

import re
from collections.abc import Callable

import apsw


class Statements:
    """What SQLite was asked while ``watch`` ran: once for each row of an executemany."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection
        self.texts: list[str] = []

    def watch(self, work: Callable[[], object]) -> None:
        def trace(_cursor: apsw.Cursor, text: str, _bindings: object) -> bool:
            self.texts.append(text)
            return True

        self.connection.exec_trace = trace
        try:
            work()
        finally:
            self.connection.exec_trace = None


def plan(connection: apsw.Connection, text: str) -> str:
    """How SQLite goes about a statement, whatever is bound."""
    numbered = [int(number) for number in re.findall(r"\?(\d+)", text)]
    rows = connection.execute(f"EXPLAIN QUERY PLAN {text}", [0] * max(numbered, default=text.count("?")))
    return "; ".join(str(row[3]) for row in rows)


def planned(connection: apsw.Connection, first: Callable[[], object], then: Callable[[], object]) -> int:
    """How many questions SQLite planned while ``then`` ran, after ``first``."""
    number = 0

    def authorize(action: int, *_: str | None) -> int:  # asked of each statement while it is planned
        nonlocal number
        number += action == apsw.SQLITE_SELECT
        return apsw.SQLITE_OK

    connection.authorizer = authorize
    try:
        first()
        number = 0
        then()
    finally:
        connection.authorizer = None
    return number
