// The TypeScript SDK v2 signs in, is refused a write, asks for more and makes it.
// Argument: {"url", "person"}; prints what happened.
import { Client, StreamableHTTPClientTransport, UnauthorizedError } from "@modelcontextprotocol/client";

const task = JSON.parse(process.argv[2]);
const asked = [];
let kept = {};

const provider = {
  redirectUrl: "http://127.0.0.1:9/back",
  clientMetadata: {
    client_name: "TypeScript v2",
    redirect_uris: ["http://127.0.0.1:9/back"],
    token_endpoint_auth_method: "none",
  },
  clientInformation: () => kept.client,
  saveClientInformation: (client) => void (kept.client = client),
  tokens: () => kept.tokens,
  saveTokens: (tokens) => void (kept.tokens = tokens),
  codeVerifier: () => kept.verifier,
  saveCodeVerifier: (verifier) => void (kept.verifier = verifier),
  discoveryState: () => kept.discovery,
  saveDiscoveryState: (discovery) => void (kept.discovery = discovery),
  redirectToAuthorization: (url) => void (kept.url = url),
};

// The person at the browser, who allows reading at first and then what is asked for.
async function allow(scopes) {
  asked.push(kept.url.searchParams.get("scope"));
  const answer = await fetch(`${task.person}/allow`, {
    method: "POST",
    body: JSON.stringify({ url: kept.url.href, scopes }),
  });
  return new URL((await answer.json()).location).searchParams;
}

async function connected() {
  const transport = new StreamableHTTPClientTransport(new URL(task.url), { authProvider: provider });
  const client = new Client({ name: "innkeeper-tests", version: "1.0.0" }, { versionNegotiation: { mode: "auto" } });
  await client.connect(transport);
  return { client, transport };
}

async function signingIn(attempt, transportOf, scopes) {
  try {
    return await attempt();
  } catch (error) {
    if (!(error instanceof UnauthorizedError)) throw error;
    await transportOf().finishAuth(await allow(scopes));
    return await attempt();
  }
}

const login = new StreamableHTTPClientTransport(new URL(task.url), { authProvider: provider });
const { client, transport } = await signingIn(connected, () => login, ["projects:read"]);
const readable = (await client.listTools()).tools.map((tool) => tool.name);
const made = await signingIn(
  () => client.callTool({ name: "create_project", arguments: { name: "From TypeScript, stepped up" } }),
  () => transport,
);
console.log(
  JSON.stringify({ asked, readable, name: made.structuredContent.name, granted: kept.tokens.scope.split(" ") }),
);
process.exit(0);
