from __future__ import annotations

import os
import shutil
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import BaseModel, Field, SecretStr

from xdr_mcp.errors import SettingsError
from xdr_mcp.places import places
from xdr_mcp.planning import Pace
from xdr_mcp.settings import (
    PREFIX,
    PRIMARY,
    Configuration,
    Settings,
    SourceName,
    load,
    parse_duration,
    show,
    show_duration,
)
from xdr_mcp.sources import source_types

DOCUMENTATION = Path(__file__).parent.parent / "docs" / "configuration.md"
SECRET = "correct-horse-battery"


class Options(BaseModel):
    """What some vendor's source may have."""

    base_url: str = Field(description="Where the API is. And more.")
    auth_token: SecretStr | None = Field(None, min_length=8, description="The token.")
    page_size: int = Field(100, ge=1, description="Alerts a request.")


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def choice(configuration: Configuration, variable: str) -> tuple[str, str]:
    return next((each.shown, each.origin) for each in configuration.choices if each.variable == variable)


# ---------------------------------------------------------------- where a value comes from


def test_without_anything_set_every_setting_has_its_default() -> None:
    configuration = load()
    assert {each.origin for each in configuration.choices} == {"default"}
    assert configuration.settings.sources == (SourceName("xdr", "xdr"),)


def test_the_command_line_beats_the_environment_beats_dotenv_beats_toml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "xdr-mcp.toml").write_text('poll_interval = "1s"\n')
    assert choice(load(), "XDR_POLL_INTERVAL") == ("1s", "xdr-mcp.toml")
    (tmp_path / ".env").write_text("XDR_POLL_INTERVAL=2s\nOTHER=thing\n")
    assert choice(load(), "XDR_POLL_INTERVAL") == ("2s", ".env")
    monkeypatch.setenv("XDR_POLL_INTERVAL", "3s")
    assert choice(load(), "XDR_POLL_INTERVAL") == ("3s", "environment")
    assert choice(load({"": {"poll_interval": "4s"}}), "XDR_POLL_INTERVAL") == ("4s", "command line")


def test_an_empty_variable_is_an_unset_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("XDR_POLL_INTERVAL=2s\n")
    monkeypatch.setenv("XDR_POLL_INTERVAL", "")
    assert choice(load(), "XDR_POLL_INTERVAL") == ("2s", ".env")


def test_a_variable_without_the_prefix_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "nonsense")
    monkeypatch.setenv("HTTP_PORT", "1")
    assert load().settings == Settings()


def test_on_request_nothing_but_the_command_line_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "xdr-mcp.toml").write_text("this is no TOML")
    monkeypatch.setenv("XDR_POLL_INTERVAL", "nonsense")
    configuration = load({"": {"http_port": 1}}, alone=True)
    assert configuration.settings == Settings(http_port=1)
    assert configuration.unknown([]) == []


@pytest.mark.parametrize(
    ("name", "content"),
    [("xdr-mcp.toml", b"poll_interval = "), ("xdr-mcp.toml", b"\xff\xfe"), (".env", b"XDR_LOG_LEVEL=\xff\xfe")],
)
def test_a_file_that_cannot_be_read_is_named(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SettingsError, match=name):
        load()


# ---------------------------------------------------------------- durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        (30, 30),
        ("0.5", 0.5),
        ("30s", 30),
        ("15m", 900),
        ("24h", 86400),
        ("7d", 604800),
        ("2w", 1209600),
        ("1h30m", 5400),
        (" 5M ", 300),
        ("PT15M", 900),
        ("P1DT2H", 93600),
    ],
)
def test_a_duration_is_read_as_people_write_it(text: object, seconds: float) -> None:
    assert parse_duration(text).total_seconds() == seconds


@pytest.mark.parametrize(
    "text", ["", "soon", "-5s", "-5", "5 parsecs", "nan", "inf", "1e400", "99999999999d", "PT", "s", "-PT5M", None]
)
def test_what_is_no_duration_is_answered_with_the_ways_to_write_one(text: object) -> None:
    with pytest.raises(ValueError, match="30s, 15m, 24h"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["60s", "90s", "5m", "1h", "24h", "7d", "2w", "0.5s"])
def test_a_duration_is_shown_as_it_is_written(text: str) -> None:
    assert show_duration(parse_duration(text)) == text


# ---------------------------------------------------------------- wrong values


def test_a_wrong_value_is_answered_with_the_variable_the_problem_and_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDR_POLL_INTERVAL", "soon")
    monkeypatch.setenv("XDR_HTTP_PORT", "99999")
    with pytest.raises(SettingsError) as caught:
        load()
    interval, port = str(caught.value).splitlines()
    assert interval.startswith("XDR_POLL_INTERVAL='soon' from the environment: is not a duration; write it like 90")
    assert interval.endswith("(default: 60s)")
    assert port.startswith("XDR_HTTP_PORT='99999' from the environment: input should be less than or equal to 65535")


def test_a_wrong_secret_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDR_HTTP_TOKEN", "hunter2")
    with pytest.raises(SettingsError) as caught:
        load()
    assert "XDR_HTTP_TOKEN from the environment: is shorter than 16 characters" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_bounds_that_contradict_each_other_are_both_named() -> None:
    with pytest.raises(SettingsError, match="XDR_SHORTEST_LOOK_BACK is longer than XDR_LONGEST_LOOK_BACK"):
        load({"": {"shortest_look_back": "2d"}})


@pytest.mark.parametrize("field", ["poll_interval", "initial_lookback", "rescan_every", "rescan_span"])
def test_an_interval_of_nothing_is_refused(field: str) -> None:
    with pytest.raises(SettingsError, match="longer than nothing"):
        load({"": {field: "0"}})


def test_a_typing_error_is_told_with_the_nearest_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDR_POL_INTERVAL", "5")
    (tmp_path / ".env").write_text("XDR_BASEURL=x\n")
    (tmp_path / "xdr-mcp.toml").write_text("poll_intervall = 5\n[sources.xdr]\nbase_uri = 'x'\n")
    lines = load().unknown([(SourceName("xdr", "xdr"), Options)])
    assert lines == [
        "XDR_BASEURL is not a setting and does nothing; did you mean XDR_BASE_URL?",
        "XDR_POL_INTERVAL is not a setting and does nothing; did you mean XDR_POLL_INTERVAL?",
        "xdr-mcp.toml: poll_intervall is not a setting and does nothing; did you mean poll_interval?",
        "xdr-mcp.toml: [sources.xdr] base_uri is not a setting and does nothing; did you mean base_url?",
    ]


# ---------------------------------------------------------------- sources


def test_sources_are_named_by_comma_and_a_second_tenant_by_a_name_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDR_SOURCES", "xdr, microsoft,contoso=microsoft")
    assert load().settings.sources == (
        SourceName("xdr", "xdr"),
        SourceName("microsoft", "microsoft"),
        SourceName("contoso", "microsoft"),
    )


def test_sources_are_the_tables_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "xdr-mcp.toml").write_text('[sources.xdr]\n[sources.contoso]\ntype = "microsoft"\n')
    assert load().settings.sources == (SourceName("xdr", "xdr"), SourceName("contoso", "microsoft"))


@pytest.mark.parametrize("text", [",", "a,a", "Contoso", "a b", "1st", "../x", "a=,a", "a" * 33])
def test_a_source_name_that_cannot_be_a_variable_or_comes_twice_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="XDR_SOURCES"):
        load({"": {"sources": text}})


def test_the_options_of_the_primary_source_carry_no_name_and_those_of_others_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDR_BASE_URL", "https://one.example")
    monkeypatch.setenv("XDR_CONTOSO_BASE_URL", "https://two.example")
    monkeypatch.setenv("XDR_CONTOSO_AUTH_TOKEN", SECRET)
    configuration = load()
    first, _ = configuration.options(SourceName("xdr", "xdr"), Options)
    second, choices = configuration.options(SourceName("contoso", "xdr"), Options)
    assert first.base_url == "https://one.example"
    assert second.auth_token is not None
    assert second.auth_token.get_secret_value() == SECRET
    assert [(each.variable, each.shown, each.origin) for each in choices] == [
        ("XDR_CONTOSO_BASE_URL", "https://two.example", "environment"),
        ("XDR_CONTOSO_AUTH_TOKEN", "set", "environment"),
        ("XDR_CONTOSO_PAGE_SIZE", "100", "default"),
    ]


def test_the_options_of_a_source_follow_the_same_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = SourceName("xdr", "xdr")
    (tmp_path / "xdr-mcp.toml").write_text('[sources.xdr]\nbase_url = "toml"\npage_size = 7\n')
    assert load().options(source, Options)[0].base_url == "toml"
    (tmp_path / ".env").write_text("XDR_BASE_URL=dotenv\n")
    assert load().options(source, Options)[0].base_url == "dotenv"
    monkeypatch.setenv("XDR_BASE_URL", "environment")
    assert load().options(source, Options)[0].base_url == "environment"
    options, _ = load({"xdr": {"base_url": "given"}}).options(source, Options)
    assert (options.base_url, options.page_size) == ("given", 7)


def test_a_missing_option_is_told_with_its_meaning_and_the_places_to_set_it() -> None:
    with pytest.raises(SettingsError) as caught:
        load().options(SourceName("contoso", "xdr"), Options)
    assert str(caught.value) == (
        "XDR_CONTOSO_BASE_URL is not set. Where the API is. Set it in the environment, in .env, or as base_url under "
        "[sources.contoso] in xdr-mcp.toml."
    )


def test_a_wrong_option_shows_no_password_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDR_BASE_URL", "https://alice:wonder@host.example")
    monkeypatch.setenv("XDR_AUTH_TOKEN", "short")
    monkeypatch.setenv("XDR_PAGE_SIZE", "https://bob:builder@x")
    with pytest.raises(SettingsError) as caught:
        load().options(SourceName("xdr", "xdr"), Options)
    assert "XDR_AUTH_TOKEN from the environment:" in str(caught.value)
    assert not {"short'", "wonder", "builder"} & set(str(caught.value).replace("@", " ").replace(":", " ").split())
    monkeypatch.setenv("XDR_AUTH_TOKEN", SECRET)
    monkeypatch.setenv("XDR_PAGE_SIZE", "5")
    _, choices = load().options(SourceName("xdr", "xdr"), Options)
    assert [each.shown for each in choices] == ["https://***@host.example", "set", "5"]


def test_a_source_whose_variables_mean_something_else_is_refused() -> None:
    class Polled(BaseModel):
        interval: int = 1

    with pytest.raises(SettingsError, match="XDR_POLL_INTERVAL means something else"):
        load().options(SourceName("poll", "xdr"), Polled)


@pytest.mark.parametrize("kind", list(source_types()))
def test_no_option_of_a_vendor_of_ours_hides_a_setting(kind: str) -> None:
    options = source_types()[kind].Options
    own = {f"{PREFIX}{name}".upper() for name in Settings.model_fields}
    for name in (kind, "contoso"):
        prefix = SourceName(name, kind).prefix
        assert own.isdisjoint(f"{prefix}{field}".upper() for field in options.model_fields)


# ---------------------------------------------------------------- where things lie


def test_things_lie_in_the_working_directory_for_their_owner_alone(tmp_path: Path) -> None:
    found = places(load())
    found.make()
    assert (found.store, found.alerts, found.moved) == (tmp_path / ".xdr-mcp/xdr-mcp.db", tmp_path / "alerts", "")
    for folder in (found.data, found.alerts):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert (folder / ".gitignore").read_text() == "*\n"


def test_settings_say_where_things_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    found = places(load({"": {"data_dir": "~/data", "alerts_dir": "elsewhere"}}))
    assert (found.data, found.alerts) == (tmp_path / "home/data", tmp_path / "elsewhere")


def test_where_the_working_directory_cannot_be_written_the_users_own_is_taken_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    blocked = tmp_path / "a-file"
    blocked.write_text("in the way of any folder")
    found = places(load(folder=blocked))
    assert tmp_path / "home" in found.data.parents
    assert found.alerts == found.data / "alerts"
    assert "cannot be written" in found.moved
    assert str(found.data) in found.moved


def test_a_folder_that_was_asked_for_and_cannot_be_made_is_an_error_with_its_variable(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(SettingsError, match="XDR_DATA_DIR"):
        places(load({"": {"data_dir": tmp_path / "taken" / "data"}})).make()


# ---------------------------------------------------------------- what depends on them


def test_the_defaults_are_those_of_the_poller() -> None:
    settings, pace = Settings(), Pace()
    assert settings.poll_interval == pace.interval == timedelta(seconds=60)
    assert settings.initial_lookback == pace.initial_lookback
    assert (settings.shortest_look_back, settings.longest_look_back) == (
        pace.shortest_look_back,
        pace.longest_look_back,
    )
    assert (settings.rescan_every, settings.rescan_span) == (pace.rescan_every, pace.rescan_span)


@pytest.mark.parametrize(
    ("prefix", "model"),
    [
        (PREFIX, Settings),
        *((SourceName(kind, kind).prefix, source_types()[kind].Options) for kind in source_types()),
    ],
)
def test_every_setting_is_documented_with_its_default(prefix: str, model: type[BaseModel]) -> None:
    rows = {}
    for line in DOCUMENTATION.read_text().splitlines():
        cells = [cell.strip() for cell in line.split(" | ")]
        if line.startswith("| `XDR_"):
            rows[cells[0].strip("|` ")] = (cells[1].strip("`"), cells[2].rstrip("| "))
    for name, field in model.model_fields.items():
        assert field.description, name
        default = "required" if field.is_required() else show(field.get_default(call_default_factory=True))
        documented = rows[f"{prefix}{name}".upper()]
        assert documented == (default, field.description.replace("|", "\\|"))


def test_the_primary_source_is_one_of_ours() -> None:
    assert PRIMARY in source_types()


def test_a_stores_archive_stays_where_it_began_whatever_folder_a_process_runs_in(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    shared = {"": {"data_dir": tmp_path / "data"}}
    began = places(load(shared, folder=first))
    began.make()
    assert began.alerts == first / "alerts"
    assert places(load(shared, folder=second)).alerts == first / "alerts"


def test_a_setting_says_otherwise_and_an_archive_that_is_gone_begins_anew(tmp_path: Path) -> None:
    shared = {"": {"data_dir": tmp_path / "data"}}
    places(load(shared, folder=tmp_path)).make()
    chosen = load({"": {"data_dir": tmp_path / "data", "alerts_dir": tmp_path / "chosen"}}, folder=tmp_path)
    assert places(chosen).alerts == tmp_path / "chosen"
    places(chosen).make()
    assert places(load(shared, folder=tmp_path)).alerts == tmp_path / "alerts"

    (tmp_path / "moved").mkdir()
    shutil.rmtree(tmp_path / "alerts")
    assert places(load(shared, folder=tmp_path / "moved")).alerts == tmp_path / "moved" / "alerts"


@pytest.mark.parametrize("place", ["environment", ".env"])
def test_a_list_or_a_table_may_be_written_as_json_and_a_text_stays_as_it_is(
    place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Several(BaseModel):
        names: list[str] | None = None
        table: dict[str, int] = Field(default_factory=dict)
        nested: Options | None = None
        text: str = ""
        key: bytes = b""

    said = {
        "NAMES": '["a", "b"]',
        "TABLE": '{"a": 1}',
        "NESTED": '{"base_url": "https://a"}',
        "TEXT": '["a"]',
        "KEY": "[1]",
    }
    if place == "environment":
        for name, text in said.items():
            monkeypatch.setenv(f"XDR_{name}", text)
    else:
        (tmp_path / ".env").write_text("".join(f"XDR_{name}='{text}'\n" for name, text in said.items()))
    read, _ = load().options(SourceName(PRIMARY, PRIMARY), Several)
    assert (read.names, read.table, read.text, read.key) == (["a", "b"], {"a": 1}, '["a"]', b"[1]")
    assert read.nested is not None
    assert read.nested.base_url == "https://a"
    monkeypatch.setenv("XDR_NAMES", "[a")
    with pytest.raises(SettingsError, match="XDR_NAMES='\\[a' from the environment"):
        load().options(SourceName(PRIMARY, PRIMARY), Several)
