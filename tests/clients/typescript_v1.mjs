// The TypeScript SDK 1.x: list, call, read, prompt, complete, subscribe, receive one update. Prints one JSON object.
// Usage: node typescript_v1.mjs '{"url": "http://…/mcp"}' | '{"command": "…", "args": [], "env": {}}'
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { ResourceUpdatedNotificationSchema } from "@modelcontextprotocol/sdk/types.js";

const where = JSON.parse(process.argv[2]);
const uri = "xdr://alerts/recent";
const client = new Client({ name: "typescript-v1", version: "1" });
const updated = new Promise((resolve) =>
  client.setNotificationHandler(ResourceUpdatedNotificationSchema, (message) => resolve(message.params.uri)));
await client.connect(where.url ? new StreamableHTTPClientTransport(new URL(where.url)) : new StdioClientTransport(where));
const tools = (await client.listTools()).tools.map((tool) => tool.name);
const called = await client.callTool({ name: "list_alerts", arguments: { limit: 2 } });
const read = await client.readResource({ uri });
const id = called.structuredContent.alerts[0].id;
const prompt = await client.getPrompt({ name: "triage_alert", arguments: { id } });
const argument = { name: "id", value: id.slice(0, -1) };
const completed = await client.complete({ ref: { type: "ref/prompt", name: "triage_alert" }, argument });
await client.subscribeResource({ uri });
console.error("subscribed");
const update = await updated;
console.log(JSON.stringify({ tools, called: called.structuredContent, read: JSON.parse(read.contents[0].text), update,
  prompt: prompt.messages[0].content.text, completed: completed.completion.values }));
await client.close();
process.exit(0);
