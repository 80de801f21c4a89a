// @ag-ui/client 1.0's HttpAgent. Its pipeline checks every event against the schema and the order of the protocol: what
// it would repair it warns of, what it cannot repair ends the run with an error.
// Argument: {"url", "token", "thread", "runs": [{"id", "say" or "result": {"call", "content"} or "answer", "tools"?,
// "props"?, "state"?, "abort_at"?, "thread"?}]}; a run with a thread of its own starts another conversation. "answer"
// is the payload, or "cancelled", for every interrupt that the last run left.

import { HttpAgent } from "@ag-ui/client";

const task = JSON.parse(process.argv[2]);
const warnings = [];
console.warn = (...words) => warnings.push(words.map(String).join(" "));
console.error = () => {}; // the client also throws what it writes there

const headers = task.token ? { Authorization: `Bearer ${task.token}` } : {};
let agent = new HttpAgent({ url: task.url, headers, threadId: task.thread });
const runs = [];
for (const run of task.runs) {
  const seen = { events: [], failed: null, finished: null, error: null, thrown: null };
  if (run.thread) agent = new HttpAgent({ url: task.url, headers, threadId: run.thread });
  if (run.result)
    agent.addMessage({ id: `${run.id}-tool`, role: "tool", toolCallId: run.result.call, content: run.result.content });
  if (run.say !== undefined) agent.addMessage({ id: `${run.id}-user`, role: "user", content: run.say });
  if (run.state !== undefined) agent.setState(run.state);
  const subscriber = {
    onEvent: ({ event }) => {
      seen.events.push(event);
      if (event.type === run.abort_at) agent.abortRun();
    },
    onRunFinishedEvent: ({ event, outcome, pendingToolCallIds }) => {
      seen.finished = { outcome, pendingToolCallIds, raw: event.outcome };
    },
    onRunErrorEvent: ({ event }) => {
      seen.error = event;
    },
    onRunFailed: ({ error }) => {
      seen.failed = `${error.name}: ${error.message}`;
    },
  };
  const input = { runId: run.id, tools: run.tools ?? [], context: [], forwardedProps: run.props ?? {} };
  if (run.answer !== undefined)
    input.resume = agent.pendingInterrupts.map(({ id }) =>
      run.answer === "cancelled"
        ? { interruptId: id, status: "cancelled" }
        : { interruptId: id, status: "resolved", payload: run.answer },
    );
  try {
    seen.messages = (await agent.runAgent(input, subscriber)).newMessages;
  } catch (error) {
    seen.thrown = { name: error.name, status: error.status ?? null, message: error.message };
  }
  seen.state = agent.state;
  seen.all = agent.messages;
  runs.push(seen);
}
console.log(JSON.stringify({ runs, warnings }));
