from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from xdr_mcp import telemetry

HOSTILE = "a\nFAKE ERROR line\r\x1b[31mred\x9b\u202egnp.exe\u200b\U000e0041\ufeff"
SECRET = "s3cr3t-t0ken-of-the-vendor"


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)


log = logging.getLogger("xdr_mcp.somewhere")


def fail(reason: str) -> None:
    raise ValueError(reason)


def test_a_line_cannot_be_forged_coloured_or_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure()
    log.warning("title: %s", HOSTILE)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.isprintable()
    assert r"a\nFAKE ERROR line\r\x1b[31mred\x9b\u202egnp.exe\u200b\U000e0041\ufeff" in line


def test_a_traceback_is_indented_so_that_it_cannot_pass_for_lines(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure()
    try:
        fail("bad\n2026-01-01T00:00:00Z INFO    app: all is well")
    except ValueError:
        log.exception("it failed")
    first, *others = capsys.readouterr().err.splitlines()
    assert first.endswith("ERROR   somewhere: it failed")
    assert all(line.startswith("    | ") for line in others)
    assert "    | 2026-01-01T00:00:00Z INFO    app: all is well" in others


def test_json_lines_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure(style="json")
    try:
        fail(HOSTILE)
    except ValueError:
        log.exception("title: %s", HOSTILE)
    (line,) = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert (told["level"], told["logger"]) == ("error", "xdr_mcp.somewhere")
    assert told["message"].isprintable()
    assert "ValueError" in told["exception"]


@pytest.mark.parametrize("style", ["plain", "json"])
@pytest.mark.parametrize(
    "message",
    [
        f"Authorization: Bearer {SECRET}",
        f"{{'authorization': 'Bearer {SECRET}'}}",
        f"x-fireeye-api-key: {SECRET}",
        f'{{"client_secret": "{SECRET}", "a": 1}}',
        f"POST client_secret={SECRET}&grant=x",
        f"curl -H 'bearer {SECRET}'",
        f"XDR_AUTH_TOKEN={SECRET}",
    ],
)
def test_what_looks_like_a_credential_is_blotted_out(
    message: str, style: str, capsys: pytest.CaptureFixture[str]
) -> None:
    telemetry.configure(style="json" if style == "json" else "plain")
    log.error(message)
    assert SECRET not in (told := capsys.readouterr().err)
    assert "***" in told


def test_a_known_secret_is_blotted_out_wherever_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure()
    telemetry.hide("swordfish")
    log.error("the vendor said: no swordfish here")
    assert capsys.readouterr().err.endswith("the vendor said: no *** here\n")


def test_what_is_no_secret_stays(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure()
    log.info("XDR_AUTH_TOKEN=set (environment); basic auth; the bearer of news; 3 new")
    assert "XDR_AUTH_TOKEN=set (environment); basic auth; the bearer of news; 3 new" in capsys.readouterr().err


def test_loud_libraries_are_quiet_even_while_debugging(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure("debug")
    logging.getLogger("httpcore.http11").debug("send_request_headers authorization")
    logging.getLogger("mcp.server").info("Processing request")
    log.debug("of ours")
    assert capsys.readouterr().err.splitlines()[0].endswith("DEBUG   somewhere: of ours")


def test_warnings_and_errors_are_counted() -> None:
    trouble = telemetry.configure("error")
    log.error("one")
    log.warning("too unimportant to be logged")
    assert (trouble.warnings, trouble.errors) == (0, 1)
