"""What the documentation says holds: links lead somewhere, commands and settings exist, and nothing exists untold.

Each setting's, option's and filter field's own row is held by the tests of that part; here is what spans the documents.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import click
import pytest
from mcp import Client
from tool_examples import GUIDE, calls_in, example_client, renewed

from xdr_mcp.cli import COMMANDS, command_named, main
from xdr_mcp.interfaces import utc_now
from xdr_mcp.query import parse
from xdr_mcp.server import build_server
from xdr_mcp.settings import PREFIX, Settings, SourceName, load
from xdr_mcp.sources import source_types
from xdr_mcp.store import open_store

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCUMENTS = [README, *sorted((ROOT / "docs").glob("*.md")), ROOT / "CHANGELOG.md", ROOT / "alerts" / "README.md"]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)


class Block(NamedTuple):
    """A fenced block."""

    document: Path
    language: str
    text: str

    def __str__(self) -> str:
        return f"{name_of(self.document)}: {self.text.strip().splitlines()[0]}"


def blocks(*languages: str) -> list[Block]:
    return [
        Block(document, found[1], found[2])
        for document in DOCUMENTS
        for found in re.finditer(r"^```(\w+)\n(.*?)^```$", document.read_text("utf-8"), re.DOTALL | re.MULTILINE)
        if found[1] in languages
    ]


def prose(document: Path) -> str:
    """A document without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", document.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


def sections(document: Path) -> set[str]:
    """The anchors of its headings, as they are made where such documents are shown."""
    headings = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def table(document: Path, heading: str) -> list[str]:
    """What stands in back-ticks in the first column of the table that follows a line."""
    after = document.read_text("utf-8").partition(f"\n{heading}")[2]
    rows = re.search(r"(?:^\|.*\n)+", after, re.MULTILINE)
    return re.findall(r"^\| `([^`]+)` \|", rows[0], re.MULTILINE) if rows else []


# ---------------------------------------------------------------- links and paths


@every_document
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (document.parent / path).resolve() if path else document
        assert found.exists(), target
        assert not anchor or anchor in sections(found), target


@every_document
def test_every_path_of_the_project_that_is_named_exists(document: Path) -> None:
    folders = "|".join(path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith("."))
    for path in re.findall(rf"`((?:{folders})/[\w./-]*)", document.read_text("utf-8")):
        if "acme" not in path and not path.startswith("alerts/alert_"):  # Acme is the vendor that the guide makes up
            assert (ROOT / path).exists(), path


def test_every_document_is_reached_from_the_readme() -> None:
    reached, waiting = set(), [README]
    while waiting:
        document = waiting.pop()
        reached.add(document)
        links = re.findall(r"\]\(([^)\s#:]+\.md)", document.read_text("utf-8"))
        waiting += {(document.parent / link).resolve() for link in links} - reached
    assert set((ROOT / "docs").glob("*.md")) <= reached


# ---------------------------------------------------------------- commands


def calls(script: str) -> Iterator[list[str]]:
    """The arguments of each call of xdr-mcp in a shell script, one that is started by another command included."""
    for line in script.replace("\\\n", " ").splitlines():
        words = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=True)
        words.whitespace_split = True
        call: list[str] = []
        for word in [*words, ";"]:
            if set(word) <= set("|&;()<>"):
                if "xdr-mcp" in call and (call[0] == "xdr-mcp" or "--" in call):
                    yield call[call.index("xdr-mcp") + 1 :]
                call = []
            else:
                call.append(word)


def parsed(arguments: list[str]) -> None:
    """Parse a command line as far as it goes without doing anything.

    Raises:
        click.UsageError: there is no such command or option.
    """
    name, *rest = arguments
    if not name.startswith("-") and name not in COMMANDS:
        raise click.UsageError(f"no such command: {name}")
    command = command_named(name) if name in COMMANDS else main
    with suppress(click.exceptions.Exit):  # --help and --version answer at once
        command.make_context("xdr-mcp", list(arguments) if command is main else rest).close()


def quoted_calls(document: Path) -> list[list[str]]:
    scripts = [block.text for block in blocks("sh", "console") if block.document == document]
    inline = re.findall(r"`(xdr-mcp [a-z-][^`]*)`", prose(document))  # `xdr-mcp COMMAND` stands for any of them
    return [call for text in scripts + inline for call in calls(text)]


@every_document
def test_every_command_that_is_quoted_is_understood(document: Path) -> None:
    for call in quoted_calls(document):
        if call[1:] or call[0] not in COMMANDS:  # a command's bare name is no call of it
            parsed(call)
        if call[0] == "alerts":
            parse(" ".join(queries_of(call)), now=utc_now())


def queries_of(call: list[str]) -> tuple[str, ...]:
    with command_named("alerts").make_context("alerts", call[1:]) as context:
        query: tuple[str, ...] = context.params["query"]
        return () if query == ("[QUERY]",) else query


def test_a_command_that_does_not_exist_would_be_found() -> None:
    (wrong,) = calls("xdr-mcp poll --intervall 60 | head")
    assert wrong == ["poll", "--intervall", "60"]
    with pytest.raises(click.NoSuchOption):
        parsed(wrong)
    with pytest.raises(click.UsageError):
        parsed(["pol"])
    assert list(calls("claude mcp add x -- xdr-mcp serve")) == [["serve"]]
    assert len(quoted_calls(README)) > 10


def test_the_readme_lists_every_command() -> None:
    listed = [name.removeprefix("xdr-mcp ") for name in table(README, "## Commands")]
    assert sorted(listed) == sorted(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_no_option_is_documented_that_does_not_exist(name: str) -> None:
    text = (ROOT / "docs" / "command-line.md").read_text("utf-8")
    section = text.partition(f"\n## `xdr-mcp {name}")[2].partition("\n## ")[0]
    documented = set(re.findall(r"^\| `.*?(--[a-z-]+)", section, re.MULTILINE))
    existing = {spelling for parameter in command_named(name).params for spelling in parameter.opts}
    assert documented
    assert documented <= existing


def test_every_script_that_is_named_can_be_run() -> None:
    named = {name for document in DOCUMENTS for name in re.findall(r"\bscripts/[\w-]+", document.read_text("utf-8"))}
    assert {"scripts/demo", "scripts/test"} <= named
    for script in named:
        assert (ROOT / script).stat().st_mode & 0o111, script


# ---------------------------------------------------------------- settings


MADE_UP = ("XDR_ACME_", "XDR_CONTOSO")
"""The vendor that exists in the guide only, and the beginning of a second tenant's variables."""


def known_variables() -> set[str]:
    """Every variable that something reads; those of the sources that the documents make up included."""
    kinds = source_types()
    text = "\n".join(document.read_text("utf-8") for document in DOCUMENTS)
    made_up = [SourceName(*pair) for pair in re.findall(r"\b([a-z]\w*)=([a-z]\w*)\b", text) if pair[1] in kinds]
    named = [SourceName(kind, kind) for kind in kinds] + made_up
    own = {f"{PREFIX}{field}".upper() for field in Settings.model_fields}
    return own.union(
        *({f"{it.prefix}{field}".upper() for field in kinds[it.type].Options.model_fields} for it in named)
    )


@every_document
def test_every_variable_that_is_named_is_read_by_something(document: Path) -> None:
    named = set(re.findall(r"\bXDR_[A-Z0-9_]*[A-Z0-9]\b", document.read_text("utf-8")))
    assert {name for name in named - known_variables() if not name.startswith(MADE_UP)} == set()


def test_what_the_command_line_s_help_says_of_variables_is_true() -> None:
    told = [parameter.help or "" for name in COMMANDS for parameter in vars(command_named(name))["params"]]
    named = set(re.findall(r"\bXDR_[A-Z_]+[A-Z]", " ".join(told)))
    assert named
    assert named <= known_variables()


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_every_configuration_file_that_is_shown_is_taken(block: Block, tmp_path: Path) -> None:
    tomllib.loads(block.text)
    if "pyproject" in block.text or "entry-points" in block.text:
        return
    (tmp_path / "xdr-mcp.toml").write_text(block.text, "utf-8")
    configuration = load(folder=tmp_path)
    kinds = source_types()
    options = [(source, kinds[source.type].Options) for source in configuration.settings.sources]
    assert [line for line in configuration.unknown(options) if "xdr-mcp.toml" in line] == []


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_every_entry_for_an_assistant_that_is_shown_starts_the_server(block: Block) -> None:
    shown: dict[str, Any] = json.loads(block.text)
    for server in (shown.get("mcpServers") or shown["servers"]).values():
        assert Path(server["command"]).name == "xdr-mcp"
        parsed(server["args"])
        assert set(server["env"]) <= known_variables()


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_every_program_that_is_shown_is_python(block: Block) -> None:
    compile(block.text, str(block), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


# ---------------------------------------------------------------- what an assistant gets


@pytest.mark.anyio
async def test_every_tool_resource_and_prompt_is_listed(tmp_path: Path) -> None:
    with anyio.fail_after(5):
        async with open_store(tmp_path / "xdr.db") as store:
            server = build_server(store, version="0", cursor_key=b"k" * 32)
            async with Client(server.mcp) as client:
                tools = [tool.name for tool in (await client.list_tools()).tools]
                resources = [str(each.uri) for each in (await client.list_resources()).resources]
                templates = [each.uri_template for each in (await client.list_resource_templates()).resource_templates]
                prompts = (await client.list_prompts()).prompts
    assert sorted(table(README, "| tool |")) == sorted(tools)
    assert sorted(table(README, "| resource |")) == sorted(resources + templates)
    assert sorted(table(ROOT / "docs" / "prompts.md", "| prompt |")) == sorted(prompt.name for prompt in prompts)


@pytest.mark.anyio
async def test_the_guide_has_a_section_for_every_tool_and_its_examples_are_answers(tmp_path: Path) -> None:
    text = GUIDE.read_text("utf-8")
    async with example_client(tmp_path) as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
    assert set(re.findall(r"^## `(\w+)`$", text, re.MULTILINE)) == tools
    assert {tool for tool, _ in calls_in(text)} == tools
    assert await renewed(text) == text, "python tests/tool_examples.py writes the examples anew"


def test_every_filter_that_the_readme_shows_is_understood() -> None:
    shown = re.findall(r"`([^`]*\b(?:severity|host|since)[:><=][^`]*)`", prose(README))
    assert shown
    for query in shown:
        parse(query, now=utc_now())


# ---------------------------------------------------------------- what no file of the project may say


def tracked() -> list[Path]:
    """The files under version control; skipped where the project is no working copy."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no working copy of a repository, so nobody can say which files are the project's")
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]  # whoever checked it out
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def joined(separator: str, *names: str) -> str:
    """A name that does not stand in this file as it is looked for."""
    return re.escape(separator.join(names))


REGISTRIES = [
    joined(".", *names)
    for names in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("yarnpkg", "com"),
        ("crates", "io"),
        ("rubygems", "org"),
        ("proxy", "golang", "org"),
        ("anaconda", "org"),
        ("registry", "npm"),
    )
] + [joined("-", "index", "url"), joined("-", "", "", "registry"), joined("-", "", "", "find", "links")]
"""Where packages come from is the business of whoever installs them: their client is configured for it."""


def test_no_file_names_a_package_registry() -> None:
    pattern = re.compile("|".join(REGISTRIES).encode(), re.IGNORECASE)
    assert found_in(tracked(), pattern) == {}
    assert pattern.search(b"".join([b"pip install --index", b"-url x"]))


FOLDERS = [
    *(joined("/", "", top) + r"/\w" for top in ("home", "Users")),
    *(joined("/", "", top) + r"(?![\w-])" for top in ("root", "tmp", "work")),
    *([re.escape(str(ROOT))] if len(ROOT.parts) > 2 else []),
]
"""Where people work, and where this working copy lies."""


def test_no_file_names_a_folder_of_somebody_s_machine() -> None:
    pattern = re.compile(rf"(?<![\w.>}}~*])(?:{'|'.join(FOLDERS)})".encode())
    hostile_ids = ROOT / "tests" / "server" / "test_resources.py"  # one of them looks like a path
    assert found_in([path for path in tracked() if path != hostile_ids], pattern) == {}
    assert pattern.search(b" see " + b"/".join([b"", b"home", b"alice", b"x"]))


def found_in(paths: list[Path], pattern: re.Pattern[bytes]) -> dict[str, list[bytes]]:
    found = {name_of(path): [hit[0] for hit in pattern.finditer(path.read_bytes())] for path in paths}
    return {name: hits for name, hits in found.items() if hits}
