"""Records made ready to be kept or recognised: all that can be done without the database, and so outside its lock."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from hashlib import sha256
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from xdr_mcp.interfaces import Page, Quarantined, Record
from xdr_mcp.store.sqlite.keys import LARGEST, microseconds
from xdr_mcp.store.sqlite.postings import posted
from xdr_mcp.store.sqlite.revisions import alert_of, body_of, uid_of
from xdr_mcp.store.sqlite.tallies import Cell

if TYPE_CHECKING:
    from xdr_mcp.alert import Alert

UNKEEPABLE = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)
"""A lone surrogate, an integer out of range, a value of another type than the model says."""


class Form(Struct, frozen=True, gc=False):
    """What a version is kept as."""

    body: bytes
    posting: tuple[str, str, str, str]
    cell: Cell
    columns: tuple[int | None, ...]
    """Of its head, from ``severity`` to ``count``. Times are microseconds."""


class Version(Struct, gc=False):
    """A record, and what it is recognised by. Times are microseconds."""

    record: Record
    uid: bytes
    created: int
    updated: int
    digest: bytes
    """Of the record's bytes: where it differs, the content may be the same still (``same_content``)."""
    _form: Form | None = None
    _content: bytes | None = None

    @classmethod
    def of(cls, record: Record) -> Version:
        """Raises one of ``UNKEEPABLE`` for what cannot be kept."""
        alert = record.alert
        return cls(
            record, uid_of(alert.id), microseconds(alert.created), microseconds(alert.updated), digest_of(record.raw)
        )

    @property
    def form(self) -> Form:
        """Made when it is first asked for. Raises one of ``UNKEEPABLE`` for what cannot be kept."""
        if self._form is None:
            alert = self.record.alert
            body = _readable(alert)
            cell = Cell.of(self.created, alert.severity.rank, alert.status.ocsf_id, alert.verdict.ocsf_id)
            self._form = Form(body, posted(alert), cell, _columns(alert, cell, self.created, self.updated))
        return self._form

    def same_content(self, raw: bytes) -> bool:
        """Whether another record says the same: key order and white space do not count."""
        if self._content is None:
            self._content = self.record.digest()
        return self._content == Record(self.record.alert, raw).digest()


class Prepared(Struct):
    """A page on its way into the store."""

    page: Page
    versions: list[Version]
    set_aside: list[Quarantined]


def prepare(page: Page) -> Prepared:
    """The page's versions, and what is to be quarantined: what came so, and what cannot be kept."""
    prepared = Prepared(page, [], list(page.quarantined))
    for record in page.records:
        try:
            prepared.versions.append(Version.of(record))
        except UNKEEPABLE as error:
            prepared.set_aside.append(unkeepable(record, error))
    return prepared


def make_forms(versions: Iterable[Version], known: AbstractSet[tuple[bytes, int, bytes]]) -> None:
    """Make the forms of all but those that are ``known``, by alert, updated time and digest."""
    for version in versions:
        if (version.uid, version.updated, version.digest) not in known:
            try:
                version.form  # noqa: B018 (made when it is first asked for)
            except UNKEEPABLE:  # set aside when its turn comes
                continue


def unkeepable(record: Record, error: Exception) -> Quarantined:
    """The record, to be set aside alone."""
    return Quarantined(record.raw, f"cannot be kept: {error}")


def digest_of(raw: bytes) -> bytes:
    """16 bytes that tell a record's bytes from others."""
    return sha256(raw).digest()[:16]


def _columns(alert: Alert, cell: Cell, created: int, updated: int) -> tuple[int | None, ...]:
    first, last = alert.first_seen, alert.last_seen
    return (
        *(cell.severity, cell.status, cell.verdict, created, updated),
        *(None if first is None else microseconds(first), None if last is None else microseconds(last)),
        *(alert.risk_score, alert.confidence, alert.count),
    )


def _readable(alert: Alert) -> bytes:
    """The alert as JSON that is known to be read back: what cannot be would stop every reader of changes for good."""
    if alert.count > LARGEST:
        raise OverflowError(f"count {alert.count} is out of range")
    body = body_of(alert)
    alert_of(body)
    return body
