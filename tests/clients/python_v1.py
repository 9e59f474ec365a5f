"""The Python SDK 1.x, as many assistants still have it: list, call, read, prompt, complete, subscribe, receive one update.

Prints one JSON object.

Usage: python python_v1.py '{"url": "http://…/mcp"}' | '{"command": "…", "args": [], "env": {}}'

It runs in an environment of its own, which has mcp 1.x; nothing of xdr-mcp is importable there.
"""

import asyncio
import json
import sys
from contextlib import asynccontextmanager

from mcp import ClientSession, StdioServerParameters, types
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamablehttp_client
from pydantic import AnyUrl

URI = AnyUrl("xdr://alerts/recent")


@asynccontextmanager
async def streams(where):
    if "url" in where:
        async with streamablehttp_client(where["url"]) as (read, write, _):
            yield read, write
    else:
        async with stdio_client(StdioServerParameters(**where)) as (read, write):
            yield read, write


async def main():
    updated = asyncio.get_running_loop().create_future()

    async def on_message(message):
        notification = getattr(message, "root", None)
        if isinstance(notification, types.ResourceUpdatedNotification) and not updated.done():
            updated.set_result(str(notification.params.uri))

    async with (
        streams(json.loads(sys.argv[1])) as (read, write),
        ClientSession(read, write, message_handler=on_message) as session,
    ):
        initialized = await session.initialize()
        tools = [tool.name for tool in (await session.list_tools()).tools]
        called = await session.call_tool("list_alerts", {"limit": 2})
        contents = (await session.read_resource(URI)).contents
        alert_id = called.structuredContent["alerts"][0]["id"]
        prompt = await session.get_prompt("triage_alert", {"id": alert_id})
        triage = types.PromptReference(type="ref/prompt", name="triage_alert")
        completed = await session.complete(triage, {"name": "id", "value": alert_id[:-1]})
        await session.subscribe_resource(URI)
        print("subscribed", file=sys.stderr, flush=True)
        update = await updated
        result = {
            "protocol": initialized.protocolVersion,
            "tools": tools,
            "called": called.structuredContent,
            "read": json.loads(contents[0].text),
            "update": update,
            "prompt": prompt.messages[0].content.text,
            "completed": completed.completion.values,
        }
        print(json.dumps(result))


asyncio.run(main())
