// The TypeScript SDKs as clients: v1 (@modelcontextprotocol/sdk) and v2 (@modelcontextprotocol/client).
// Argument: {"sdk": "v1" | "v2", "url", "token", "name"}; prints what the client made of the server's answers.

const task = JSON.parse(process.argv[2]);
const v1 = task.sdk === "v1";
const { Client, StreamableHTTPClientTransport } = v1
  ? {
      ...(await import("@modelcontextprotocol/sdk/client/index.js")),
      ...(await import("@modelcontextprotocol/sdk/client/streamableHttp.js")),
    }
  : await import("@modelcontextprotocol/client");

async function connected(url, token) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const transport = new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } });
  const options = v1 ? {} : { versionNegotiation: { mode: "auto" } };
  const client = new Client({ name: "innkeeper-tests", version: "1.0.0" }, options);
  await client.connect(transport);
  return { client, protocol: v1 ? transport.protocolVersion : client.getNegotiatedProtocolVersion() };
}

// What people wrote stands between marks in what models read.
const unfenced = (text) => text.replaceAll(/<\/?untrusted-[0-9a-f]{8}>/g, "");

async function refusal(attempt) {
  try {
    await attempt();
  } catch (error) {
    return { name: error.name, code: error.code ?? null, status: error.status ?? null, message: error.message };
  }
  return null;
}

const { client, protocol } = await connected(task.url, task.token);
const server = client.getServerVersion()?.name ?? null;
const { tools } = await client.listTools();
// Both SDKs check structuredContent against the listed outputSchema, and throw when it does not fit.
const created = await client.callTool({ name: "create_project", arguments: { name: task.name } });
const id = created.structuredContent.id;
const fetched = await client.callTool({ name: "get_project", arguments: { project_id: id } });
const { contents } = await client.readResource({ uri: `innkeeper://projects/${id}` });
const missing = await client.callTool({
  name: "get_project",
  arguments: { project_id: "00000000-0000-7000-8000-000000000000" },
});
const unknown = await refusal(() => client.callTool({ name: "open_the_minibar", arguments: {} }));
await client.close();

const reader = await connected(`${task.url}?read_only=1`, task.token);
const readable = (await reader.client.listTools()).tools;
await reader.client.close();

const said = {
  protocol,
  server,
  tools: Object.fromEntries(tools.map((tool) => [tool.name, tool.annotations])),
  created: created.structuredContent,
  fetched: fetched.structuredContent,
  text: JSON.parse(unfenced(fetched.content[0].text)),
  resource: JSON.parse(unfenced(contents[0].text)),
  missing,
  unknown,
  readable: readable.map((tool) => tool.name),
  without_token: await refusal(() => connected(task.url, null)),
  wrong_token: await refusal(() => connected(task.url, "ik_sk_wrong")),
};
console.log(JSON.stringify(said));
