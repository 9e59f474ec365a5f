// The TypeScript SDK 2.x, in the 2026-07-28 era: list, call, read, prompt, complete, listen, receive one update. Prints one JSON object.
// Usage: node typescript_v2.mjs '{"url": "http://…/mcp"}' | '{"command": "…", "args": [], "env": {}}'
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";

const where = JSON.parse(process.argv[2]);
const uri = "xdr://alerts/recent";
const client = new Client({ name: "typescript-v2", version: "1" }, { versionNegotiation: { mode: "auto" } });
const updated = new Promise((resolve) =>
  client.setNotificationHandler("notifications/resources/updated", (message) => resolve(message.params.uri)));
await client.connect(where.url ? new StreamableHTTPClientTransport(new URL(where.url)) : new StdioClientTransport(where));
const protocol = client.getNegotiatedProtocolVersion();
const tools = (await client.listTools()).tools.map((tool) => tool.name);
const called = await client.callTool({ name: "list_alerts", arguments: { limit: 2 } });
const read = await client.readResource({ uri });
const id = called.structuredContent.alerts[0].id;
const prompt = await client.getPrompt({ name: "triage_alert", arguments: { id } });
const argument = { name: "id", value: id.slice(0, -1) };
const completed = await client.complete({ ref: { type: "ref/prompt", name: "triage_alert" }, argument });
await client.listen({ resourceSubscriptions: [uri] });
console.error("subscribed");
const update = await updated;
console.log(JSON.stringify({
  protocol, tools, called: called.structuredContent, read: JSON.parse(read.contents[0].text), update,
  prompt: prompt.messages[0].content.text, completed: completed.completion.values }));
await client.close();
process.exit(0);
