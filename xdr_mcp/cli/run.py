"""Commands that run something: ``serve``, ``poll``, ``demo``, ``simulate``."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import click

from xdr_mcp import app, telemetry
from xdr_mcp import demo as demonstration
from xdr_mcp.cli.options import common, settled
from xdr_mcp.cli.signals import run_service, run_task
from xdr_mcp.cli.terminal import poll_progress, program, say
from xdr_mcp.errors import SettingsError
from xdr_mcp.settings import LOOPBACK, PRIMARY, parse_duration

ALERTS_DIR = click.option(
    "--alerts-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the archive writes its files.  [XDR_ALERTS_DIR; default: alerts in the working directory]",
)


@click.command()
@click.option(
    "--interval", metavar="DURATION", help="Time between two polls: 60, 30s, 5m.  [XDR_POLL_INTERVAL; default: 60s]"
)
@click.option("--once", is_flag=True, help="Read everything that is due, store and archive it, and end.")
@click.option("--base-url", metavar="URL", help="Where the XDR's API is.  [XDR_BASE_URL]")
@click.option(
    "--auth-token",
    metavar="TOKEN",
    help="The XDR's token. Other users of this machine can see a command line: prefer XDR_AUTH_TOKEN.",
)
@ALERTS_DIR
@common
def poll(
    interval: str | None,
    base_url: str | None,
    auth_token: str | None,
    alerts_dir: Path | None,
    data_dir: Path | None,
    *,
    once: bool,
    debug: bool,
) -> None:
    """Poll into the store and the archive, without a server.

    Runs until SIGINT or SIGTERM, and works around every failure meanwhile: each is logged, counted and tried again. With
    --once it reads everything that is due and exits with 0 when all of it is stored and archived, otherwise with the code of
    the first failure.

    The token dev-dummy-token means development: no call is made, everything else runs.
    """
    xdr = {name: value for name, value in (("base_url", base_url), ("auth_token", auth_token)) if value is not None}
    setup = settled(debug=debug, xdr=xdr, poll_interval=interval, alerts_dir=alerts_dir, data_dir=data_dir)
    if xdr and PRIMARY not in {source.name for source in setup.settings.sources}:
        raise SettingsError("--base-url and --auth-token are of the source named xdr, which XDR_SOURCES leaves out")
    with poll_progress() as progress:
        if not once:
            run_service(lambda: app.poll(setup, progress))
            return
        reports = run_task(lambda: app.poll_once(setup, progress))
    for report in reports:
        say(str(report))


@click.command()
@click.option("--stdio", "transport", flag_value="stdio", default=True, help="Speak over stdin and stdout.  [default]")
@click.option("--http", "transport", flag_value="http", help="Speak Streamable HTTP.")
@click.option("--host", help="Address to listen on with --http.  [XDR_HTTP_HOST; default: 127.0.0.1]")
@click.option(
    "--port", type=int, help="Port to listen on with --http; 0 takes a free one.  [XDR_HTTP_PORT; default: 8765]"
)
@ALERTS_DIR
@common
def serve(
    transport: str,
    host: str | None,
    port: int | None,
    alerts_dir: Path | None,
    data_dir: Path | None,
    *,
    debug: bool,
) -> None:
    """Serve alerts to assistants over MCP, and poll.

    Over stdio (the default) the assistant starts this command itself; see mcp.json. With --http one server serves any number
    of assistants. Any number of servers may share a store: one of them polls, the others follow it and take over within
    seconds when it dies. With XDR_POLL_ENABLED=false this one only follows.

    A source that is not configured rightly does not keep the server down: what is stored can be asked for, and the reason
    is in the log and in the status.
    """
    if transport == "stdio" and (host is not None or port is not None):
        raise SettingsError("--host and --port are for --http, which is missing")
    setup = settled(debug=debug, http_host=host, http_port=port, alerts_dir=alerts_dir, data_dir=data_dir)
    if transport == "http":
        run_service(lambda: app.serve_http(setup, partial(_tell_url, token=bool(setup.settings.http_token))))
        return
    if sys.stdin.isatty():
        click.echo(
            "An assistant starts this and speaks over stdin; for a person there is `serve --http`. Ctrl-C ends it.",
            err=True,
        )
    run_service(lambda: app.serve_stdio(setup))


def _tell_url(url: str, *, token: bool) -> None:
    header = ' --header "Authorization: Bearer $XDR_HTTP_TOKEN"' if token else ""
    say(f"Serving on {url}")
    say(f"  claude mcp add --transport http xdr {url}{header}")
    sys.stdout.flush()


@click.command()
@click.option("--port", type=int, help="Port of the MCP server; 0 takes a free one.  [default: 8765, or a free one]")
@click.option(
    "--speed", type=click.FloatRange(0.01, 10_000), default=60.0, show_default=True, help="How fast things happen."
)
def demo(port: int | None, speed: float) -> None:
    """See it work, with nothing configured.

    Runs a simulated XDR, the poller and an MCP server in this one process, says how to connect an assistant, and prints
    alerts as they arrive. Settings are not read. Its data lies in a temporary folder and is removed at the end.
    """
    from xdr_mcp.cli.look import print_change  # noqa: PLC0415 (it draws, which a server need not load)

    port = demonstration.free_port() if port is None else port
    run_service(lambda: demonstration.demo(port, speed, _tell_demo, print_change))


_DECIDE: Final = (
    f"XDR_TRIAGE=approve XDR_WRITE_BACK=true XDR_BASE_URL={{vendor}} XDR_AUTH_TOKEN={demonstration.Simulated().token}"
)
"""What deciding on a proposal needs of the environment in the demo."""


def _tell_demo(demo: demonstration.Demo) -> None:
    say(
        f"""
A simulated XDR with {demo.alerts} alerts, the poller and an MCP server run in this process.

  MCP server    {demo.url}
  Claude Code   claude mcp add --transport http xdr-demo {demo.url}
  Inspector     npx @modelcontextprotocol/inspector --cli {demo.url} --transport http --method tools/list
  Terminal      {program()} alerts --data-dir {demo.data} 'severity>=high'
                {program()} status --data-dir {demo.data}
  Decide        {_DECIDE.format(vendor=demo.vendor)} {program()} approve --data-dir {demo.data}
  Archive       {demo.data / "alerts"}
  XDR           {demo.vendor}

Ask your assistant: "What critical alerts are open, and on which hosts?"
Or: "Propose to close the newest false positive." What it proposes waits for you: the command beside Decide.
Alerts follow as they arrive; Ctrl-C ends it all.
"""
    )
    sys.stdout.flush()


@click.command()
@click.option("--host", default=LOOPBACK, show_default=True, help="Address to listen on.")
@click.option("--port", default=8766, show_default=True, help="Port to listen on; 0 takes a free one.")
@click.option("--token", default="simulator-token", show_default=True, help="The token that it accepts.")
@click.option(
    "--seed", default=1, show_default=True, help="Chooses the company and all that happens; the same seed, the same."
)
@click.option("--speed", default=1.0, show_default=True, help="How many times faster than the clock things happen.")
@click.option("--rate", default=12.0, show_default=True, help="Noisy alerts in an hour of the company's, on average.")
@click.option(
    "--history",
    default="24h",
    show_default=True,
    metavar="DURATION",
    help="How far back alerts are there at the start.",
)
@click.option("--alerts", type=int, help="Instead of --history: so many alerts are there at the start.")
@click.option(
    "--stories/--no-stories", default=True, help="Whether attacks unfold among the noise.  [default: they do]"
)
@click.option(
    "--faults",
    default="",
    metavar="SPEC",
    help="Vices: `all`, or by comma `429:0.1,late:0.05:2m,outage:30s,burst:200`.",
)
@click.option(
    "--drift", default="", metavar="SPEC", help="Shapes that records take in the wild: `all`, or some by comma."
)
@click.option(
    "--time-filter",
    type=click.Choice(["supported", "rejected", "ignored"]),
    default="supported",
    show_default=True,
    help="What asking for a stretch of time does.",
)
@click.option(
    "--largest-page", default=1000, show_default=True, help="A request for more alerts than this gets this many."
)
@click.option("--offset-cap", type=int, help="How far page[offset] may go; beyond, it answers 400.")
@click.option("--debug", is_flag=True, help="Log more.")
def simulate(history: str, *, debug: bool, **wanted: Any) -> None:
    """Serve a simulated XDR.

    A company with attack stories that an analyst would recognise (phishing to ransomware, a stolen identity, an insider, and
    much noise), whose alerts are updated and closed over time. It prints the command that polls it.

    --faults gives it the vices of real APIs: refusals, overload, broken, slow and repeated answers, late and reordered alerts,
    bursts, outages. A wrong name is answered with those that exist.
    """
    telemetry.configure("debug" if debug else "warning")
    try:
        simulated = demonstration.Simulated(history=parse_duration(history), **wanted)
    except ValueError as error:
        raise SettingsError(f"--history {history} {error}") from error
    run_service(lambda: _simulate(simulated))


async def _simulate(simulated: demonstration.Simulated) -> None:
    async with demonstration.simulating(simulated) as url:
        say(f"Simulated XDR on {url}")
        say(f"  {program()} poll --base-url {url} --auth-token {simulated.token}")
        sys.stdout.flush()
        await anyio.sleep_forever()
