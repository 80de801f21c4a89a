// npm @tambo-ai/client 1.1 and @tambo-ai/typescript-sdk 0.96: what they are told to do, one after the other.
// Argument: {"url", "key"?, "bearer"?, "userKey"?, "tools"?, "components"?, "steps": [...]}. A step is
//   {"run": text, "thread"?, "autoExecuteTools"?, "cancelAt"?: event type, "meanwhile"?: a step before that}
//                                        by the client, whose reducer judges events;
//   {"client": method, "args"?}          another method of it;
//   {"sdk": "threads.list", "args"?}     the SDK alone;
// each with "as": another key, bearer or userKey. "$thread" and "$run" in it stand for those of the last run. It is
// answered with what came of it, or with {"error": {...}}.

import { TamboClient } from "@tambo-ai/client";
import TamboAI from "@tambo-ai/typescript-sdk";

const task = JSON.parse(process.argv[2]);
const warnings = [];
console.warn = (...words) => warnings.push(words.map(String).join(" "));
console.error = () => {};

const called = [];
const tools = (task.tools ?? []).map((tool) => ({
  ...tool,
  tool: async (input) => {
    called.push({ name: tool.name, input });
    if (tool.fails) throw new Error(tool.fails);
    return tool.returns;
  },
}));

const callers = {};
function caller({ key, bearer, userKey }) {
  const name = JSON.stringify([key, bearer, userKey]);
  if (!callers[name]) {
    const client = new TamboClient({ apiKey: key ?? "", tamboUrl: task.url, userKey, tools });
    for (const component of task.components ?? []) client.registerComponent(component.name, component);
    // The client takes no token of an end user itself; its React provider hands one to the SDK.
    if (bearer) client.sdkClient.bearer = bearer;
    const sdk = new TamboAI({ apiKey: key ?? null, bearer: bearer ?? null, baseURL: task.url });
    callers[name] = { client, sdk };
  }
  return callers[name];
}

let last = {};
const filled = (value) => {
  if (typeof value === "string") return value.replace("$thread", last.thread).replace("$run", last.run);
  if (Array.isArray(value)) return value.map(filled);
  if (value && typeof value === "object")
    return Object.fromEntries(Object.entries(value).map(([name, held]) => [name, filled(held)]));
  return value;
};

async function run(step, { client, sdk }) {
  const events = [];
  let meanwhile = null;
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
      if (step.meanwhile) meanwhile = await done({ as: step.as, ...step.meanwhile });
      await sdk.threads.runs.delete(last.run, { threadId: last.thread });
    }
  }
  const thread = await ended;
  return { events, ...(thread.thrown ? thread : { thread }), runId: last.run, threadId: last.thread, meanwhile };
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

async function done(step) {
  try {
    const who = caller({ ...task, ...step.as });
    if (step.run) return await run(step, who);
    return step.client ? await call(who.client, step.client, step.args) : await call(who.sdk, step.sdk, step.args);
  } catch (error) {
    return { error: told(error) };
  }
}

const found = [];
for (const step of task.steps) found.push(await done(step));
console.log(JSON.stringify({ found, called, warnings }));
