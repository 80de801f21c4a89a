// Gives every request of the suite to the server under test the bearer token that the suite has no option for.
// Loaded before the suite by NODE_OPTIONS=--import. The suite calls in three ways: fetch and undici's request, which
// both take undici's global dispatcher, and node's http.request.
import http from "node:http";
import { getGlobalDispatcher, setGlobalDispatcher } from "undici";

const origin = process.env.CONFORMANCE_ORIGIN;
const token = process.env.CONFORMANCE_TOKEN;

function named(headers, name) {
  if (!headers) return false;
  if (Array.isArray(headers)) return headers.some((value, at) => at % 2 === 0 && `${value}`.toLowerCase() === name);
  const pairs = headers[Symbol.iterator] ? [...headers] : Object.entries(headers);
  return pairs.some(([key]) => key.toLowerCase() === name);
}

function withToken(headers) {
  if (!headers) return { authorization: `Bearer ${token}` };
  if (Array.isArray(headers)) return [...headers, "authorization", `Bearer ${token}`];
  if (headers[Symbol.iterator]) return [...headers, ["authorization", `Bearer ${token}`]];
  return { ...headers, authorization: `Bearer ${token}` };
}

setGlobalDispatcher(
  getGlobalDispatcher().compose((dispatch) => (options, handler) => {
    const ours = `${options.origin}` === origin && !named(options.headers, "authorization");
    return dispatch(ours ? { ...options, headers: withToken(options.headers) } : options, handler);
  }),
);

const request = http.request;
http.request = (options, ...rest) => {
  const ours = new URL(origin).port === `${options?.port}` && !named(options.headers, "authorization");
  return request(ours ? { ...options, headers: withToken(options.headers) } : options, ...rest);
};
