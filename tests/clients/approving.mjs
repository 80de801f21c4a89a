// The TypeScript SDK v2 as a client at which a person sits. Argument: {"url", "token", "answers": [...]}: deletes one new
// project for each answer ("accept", "decline" or "cancel") and prints what it was asked and what came back.

import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const task = JSON.parse(process.argv[2]);
const transport = new StreamableHTTPClientTransport(new URL(task.url), {
  requestInit: { headers: { Authorization: `Bearer ${task.token}` } },
});
const client = new Client(
  { name: "innkeeper-tests", version: "1.0.0" },
  { versionNegotiation: { mode: "auto" }, capabilities: { elicitation: { form: {} } } },
);
const asked = [];
let answer;
client.setRequestHandler("elicitation/create", async (request) => {
  asked.push(request.params.message);
  return answer === "accept" ? { action: "accept", content: {} } : { action: answer };
});
await client.connect(transport);
const results = [];
for (answer of task.answers) {
  const made = await client.callTool({ name: "create_project", arguments: { name: `To be ${answer}` } });
  const result = await client.callTool({
    name: "delete_project",
    arguments: { project_id: made.structuredContent.id },
  });
  results.push(result.isError ? result._meta["innkeeper/error"].code : "done");
}
const protocol = client.getNegotiatedProtocolVersion();
await client.close();
console.log(JSON.stringify({ protocol, asked, results }));
