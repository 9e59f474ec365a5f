"""Which vices the simulated vendor has, how often each strikes, and whether one strikes now.

A specification is a comma list: ``429:0.1,late:0.05:2m,outage:30s,stall:x3,burst:200``. After a vice's name come, in any
order, a rate from 0 to 1, a duration (``500ms``, ``30s``, ``5m``, ``1h``), ``xN`` for at most N times, and a whole number
from 2 up for how much. ``all`` is every vice at its own rate; what follows overrides: ``all,outage:0,stall:0``.

Strikes are drawn from the seed in the order of the requests, those on an alert's times from its id: the same run, the
same vices. What each does to the bytes lies in ``wire``, what it does to the data in ``ledger``.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from difflib import get_close_matches
from enum import Enum
from random import Random
from typing import Final, Self


class BadFaults(ValueError):
    """A specification of vices that cannot be understood; the message says which part and what would do."""


class Place(Enum):
    """Where a vice strikes."""

    ANSWER = "the whole answer"
    PAGE = "a page of alerts"
    TIMES = "the times of an alert"
    WORLD = "what happens while pages are read"


@dataclass(frozen=True, slots=True)
class Vice:
    """A vice as it is known, or as it is set: the same shape."""

    name: str
    place: Place
    effect: str
    rate: float
    seconds: float = 0.0
    amount: int = 0
    times: int | None = None


_KNOWN = (
    Vice("outage", Place.ANSWER, "for a while every request is dropped or answered 503", 0.001, seconds=5),
    Vice("401", Place.ANSWER, "the credential is refused", 0.01),
    Vice("429", Place.ANSWER, "too many requests, with each form of Retry-After in turn", 0.02),
    Vice("429-seconds", Place.ANSWER, "Retry-After in seconds", 0.005, seconds=1),
    Vice("429-date", Place.ANSWER, "Retry-After as an HTTP date", 0.005, seconds=2),
    Vice("429-epoch", Place.ANSWER, "Retry-After as epoch seconds", 0.005, seconds=2),
    Vice("429-negative", Place.ANSWER, "Retry-After below zero", 0.005),
    Vice("429-huge", Place.ANSWER, "Retry-After of years", 0.001),
    Vice("429-garbage", Place.ANSWER, "Retry-After that is no time", 0.005),
    Vice("429-none", Place.ANSWER, "no Retry-After", 0.005),
    Vice("5xx", Place.ANSWER, "500, 502, 503 or 504, with JSON, text or nothing", 0.03),
    Vice("slow", Place.ANSWER, "the first byte comes late", 0.02, seconds=1),
    Vice("trickle", Place.ANSWER, "the body comes in dribs and drabs", 0.01, seconds=2),
    Vice("stall", Place.ANSWER, "half the body, then silence, then the connection ends", 0.005, seconds=20),
    Vice("reset", Place.ANSWER, "the connection ends without an answer", 0.01),
    Vice("truncated-json", Place.ANSWER, "a body that ends in the middle and claims to be whole", 0.01),
    Vice("truncated-gzip", Place.ANSWER, "a compressed body that ends in the middle", 0.01),
    Vice("content-length", Place.ANSWER, "Content-Length says more or less than is sent", 0.01),
    Vice("cut-chunk", Place.ANSWER, "the connection ends inside a chunk", 0.01),
    Vice("html", Place.ANSWER, "200 with a log-in page", 0.01),
    Vice("gzip-bomb", Place.ANSWER, "a small body that inflates to this many megabytes", 0.001, amount=1024),
    Vice("poison", Place.PAGE, "a record that parsers refuse", 0.05, amount=2),
    Vice("repeat", Place.PAGE, "records that were told before", 0.05, amount=3),
    Vice("reorder", Place.PAGE, "records in no order", 0.05),
    Vice("late", Place.TIMES, "appears after this long at most, with the old updatedAt", 0.03, seconds=180),
    Vice("equal", Place.TIMES, "shares its updatedAt with the change before it, if that is this recent", 0.1, seconds=5),
    Vice("burst", Place.WORLD, "this many alerts at once", 0.002, amount=250),
    Vice("shift", Place.WORLD, "this many records change between two pages", 0.1, amount=3),
)  # fmt: skip

VICES: Final = {vice.name: vice for vice in _KNOWN}
"""Every vice by name, at the rate that ``all`` gives it."""

RETRY_AFTER_FORMS: Final = tuple(name for name in VICES if name.startswith("429-"))

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class Faults:
    """The vices in force. One object for one simulator."""

    def __init__(self, vices: dict[str, Vice] | None = None, *, seed: int = 1) -> None:
        self.seed = seed
        self.random = Random(f"faults/{seed}")  # noqa: S311 (repeatable, not secret)
        self.struck: Counter[str] = Counter()
        """How often each has struck."""
        self._vices = dict(vices or {})
        self._calm = False

    @classmethod
    def parse(cls, text: str, *, seed: int = 1) -> Self:
        """Read a specification; an empty one, or ``none``, is a vendor without vices. Raises BadFaults."""
        return cls(parse_vices(text), seed=seed)

    @property
    def vices(self) -> tuple[Vice, ...]:
        """What is in force; nothing while calm."""
        return () if self._calm else tuple(self._vices.values())

    @property
    def is_calm(self) -> bool:
        """Whether the vices rest."""
        return self._calm

    def set(self, text: str) -> None:
        """Replace the vices, and end the calm. Raises BadFaults, and then changes nothing."""
        self._vices = parse_vices(text)
        self._calm = False

    def calm(self) -> None:
        """Let every vice rest, so that what follows can be compared with the truth."""
        self._calm = True

    def resume(self) -> None:
        """End the calm."""
        self._calm = False

    def active(self, name: str) -> Vice | None:
        """The vice as set, or None while it cannot strike."""
        vice = None if self._calm else self._vices.get(name)
        return vice if vice and (vice.times is None or self.struck[name] < vice.times) else None

    def strikes(self, name: str, *of: object) -> Vice | None:
        """Draw whether a vice strikes now; with ``of``, the draw depends on those alone."""
        vice = self.active(name)
        if vice is None:
            return None
        chance = self.chance(name, *of) if of else self.random.random()
        if chance >= vice.rate:
            return None
        self.struck[name] += 1
        return vice

    def chance(self, *of: object) -> float:
        """A number from 0 to 1 that depends on the seed and on ``of`` alone."""
        return Random(f"{self.seed}/{of}").random()  # noqa: S311 (repeatable, not secret)

    def for_answer(self) -> Vice | None:
        """The vice that spoils the next answer, if any; the first drawn wins."""
        for vice in self.vices:
            if vice.place is Place.ANSWER and (struck := self.strikes(vice.name)):
                return struck
        return None


def parse_vices(text: str) -> dict[str, Vice]:
    """A specification as vices by name. Raises BadFaults."""
    vices: dict[str, Vice] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, *settings = item.split(":")
        if name == "none":
            vices = {}
        elif name == "all":
            vices = {
                known.name: _with(known, settings, item) for known in _KNOWN if known.name not in RETRY_AFTER_FORMS
            }
        elif name in VICES:
            vices[name] = _once(_with(replace(VICES[name], rate=1.0), settings, item))
        else:
            raise BadFaults(_unknown(name))
    return {name: vice for name, vice in vices.items() if vice.rate > 0}


def _unknown(name: str) -> str:
    close = get_close_matches(name, VICES, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"there is no vice {name!r}; {hint}known are all, none, {', '.join(VICES)}"


def _with(vice: Vice, settings: list[str], item: str) -> Vice:
    """The vice with the settings of one item."""
    for setting in settings:
        if duration := _DURATION.fullmatch(setting):
            vice = replace(vice, seconds=float(duration[1]) * _UNITS[duration[2]])
        elif setting[:1] == "x" and setting[1:].isdecimal():
            vice = replace(vice, times=int(setting[1:]))
        elif setting.isdecimal() and int(setting) > 1:
            vice = replace(vice, amount=int(setting))
        else:
            vice = replace(vice, rate=_rate(setting, item))
    return vice


def _once(vice: Vice) -> Vice:
    """An outage or a burst that was given no rate comes once, not at every request."""
    single = vice.name in {"outage", "burst"} and vice.rate == 1 and vice.times is None
    return replace(vice, times=1) if single else vice


def _rate(setting: str, item: str) -> float:
    try:
        rate = float(setting)
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 1:
        raise BadFaults(
            f"in {item!r}, {setting!r} is neither a rate from 0 to 1, a duration such as 30s, a number of times such as "
            f"x3, nor a whole number from 2 up; for example 429:0.1 or outage:30s"
        )
    return rate
