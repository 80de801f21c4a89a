// The TypeScript SDKs, v1 and v2, with a server that is a program on standard input and output.
// Argument: {"command", "args", "env"}; prints in "said" for each SDK the protocol, the tools and what list_projects answered.

const task = JSON.parse(process.argv[2]);
const v1 = {
  ...(await import("@modelcontextprotocol/sdk/client/index.js")),
  ...(await import("@modelcontextprotocol/sdk/client/stdio.js")),
};
const v2 = {
  ...(await import("@modelcontextprotocol/client")),
  ...(await import("@modelcontextprotocol/client/stdio")),
};

async function used({ Client, StdioClientTransport }, options) {
  const client = new Client({ name: "innkeeper-tests", version: "1.0.0" }, options);
  await client.connect(new StdioClientTransport(task));
  const { tools } = await client.listTools();
  const { structuredContent } = await client.callTool({ name: "list_projects", arguments: {} });
  const protocol = client.getNegotiatedProtocolVersion?.() ?? null;
  await client.close();
  return { protocol, tools: tools.length, projects: structuredContent.projects.map((project) => project.name) };
}

const said = await Promise.all([used(v1, {}), used(v2, { versionNegotiation: { mode: "auto" } })]);
console.log(JSON.stringify({ said }));
