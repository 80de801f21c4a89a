// npm @tambo-ai/client 1.1 and @tambo-ai/typescript-sdk 0.96: one client, and what it is told to do, one after the other.
// Argument: {"url", "key"?, "bearer"?, "userKey"?, "tools"?, "components"?, "steps": [...]}. A step is
//   {"run": text or message, "thread"?, "cancelAt"?, "autoExecuteTools"?}   by the client, whose reducer judges events;
//   {"client": method, "args"?}                                            another method of it;
//   {"sdk": "threads.list", "args"?}                                       the SDK alone.
// "$thread" and "$run" among args stand for those of the last run. Each step is answered with what came of it, or with
// {"error": {...}}.

import { TamboClient } from "@tambo-ai/client";
import TamboAI from "@tambo-ai/typescript-sdk";

const task = JSON.parse(process.argv[2]);
const warnings = [];
console.warn = (...words) => warnings.push(words.map(String).join(" "));
console.error = () => {};

const called = [];
const options = { apiKey: task.key, tamboUrl: task.url, userKey: task.userKey };
options.tools = (task.tools ?? []).map((tool) => ({
  ...tool,
  tool: async (input) => {
    called.push({ name: tool.name, input });
    if (tool.fails) throw new Error(tool.fails);
    return tool.returns;
  },
}));
const client = new TamboClient({ ...options, apiKey: options.apiKey ?? "" });
for (const component of task.components ?? []) client.registerComponent(component.name, component);
// The client takes no token of an end user itself; its React provider hands one to the SDK.
if (task.bearer) client.sdkClient.bearer = task.bearer;
const sdk = new TamboAI({ apiKey: task.key ?? null, bearer: task.bearer ?? null, baseURL: task.url });

let last = {};
const filled = (value) => {
  if (typeof value === "string") return value.replace("$thread", last.thread).replace("$run", last.run);
  if (Array.isArray(value)) return value.map(filled);
  if (value && typeof value === "object")
    return Object.fromEntries(Object.entries(value).map(([name, held]) => [name, filled(held)]));
  return value;
};

async function run(step) {
  const events = [];
  const stream = client.run(step.run, {
    threadId: step.thread ? filled(step.thread) : undefined,
    autoExecuteTools: step.autoExecuteTools ?? true,
    toolChoice: step.toolChoice,
    additionalContext: step.additionalContext,
  });
  const ended = stream.thread.catch((error) => ({ thrown: told(error) }));
  for await (const { event } of stream) {
    events.push(event);
    if (event.type === "RUN_STARTED") last = { thread: event.threadId, run: event.runId };
    if (event.type === step.cancelAt) {
      await sdk.threads.runs.delete(last.run, { threadId: last.thread });
    }
  }
  const thread = await ended;
  return { events, ...(thread.thrown ? thread : { thread }), runId: last.run, threadId: last.thread };
}

async function call(on, path, args) {
  const names = path.split(".");
  const method = names.pop();
  const holder = names.reduce((found, name) => found[name], on);
  const found = await holder[method](...filled(args ?? []));
  if (found && typeof found === "object" && Symbol.asyncIterator in found) {
    const events = [];
    for await (const event of found) {
      events.push(event);
      if (event.type === "RUN_STARTED") last = { thread: event.threadId, run: event.runId };
    }
    return events;
  }
  return found ?? null;
}

const told = (error) => ({
  name: error.constructor.name,
  message: error.message,
  status: error.status ?? null,
  type: error.error?.type ?? null,
});

const found = [];
for (const step of task.steps) {
  try {
    if (step.run) found.push(await run(step));
    else if (step.client) found.push(await call(client, step.client, step.args));
    else found.push(await call(sdk, step.sdk, step.args));
  } catch (error) {
    found.push({ error: told(error) });
  }
}
console.log(JSON.stringify({ found, called, warnings }));
