// The gateway's API, with the key that was typed in. The key lives in this module alone: no cookie,
// no storage; a page that is loaded again has forgotten it.

import { frames } from "./sse.js";

let key = "";
const listeners = new Set();

/** What the server refused, in its own words. */
export class ApiError extends Error {
  /** @param {number} status 0: the server was not reached, or the connection broke. */
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.code = error.code ?? null;
    this.trace = error.metadata?.trace_id ?? null;
  }

  get needsKey() {
    return this.status === 401;
  }
}

export function hasKey() {
  return key !== "";
}

export function setKey(secret) {
  key = secret.trim();
  for (const listener of listeners) listener();
}

/** Call `listener` whenever another key was typed in. */
export function onKey(listener) {
  listeners.add(listener);
}

/**
 * Return the JSON that the API answers.
 * @throws {ApiError}
 */
export async function call(path, { method = "GET", body = null } = {}) {
  return readJson(await send(path, { method, body }));
}

/**
 * Yield the objects of a streamed answer.
 * @throws {ApiError} also when the stream ends before it says so.
 */
export async function* stream(path, body, signal) {
  const response = await send(path, { method: "POST", body, signal });
  try {
    for await (const data of frames(response.body)) {
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ApiError(response.status, chunk.error);
      yield chunk;
    }
  } catch (error) {
    if (error instanceof ApiError || signal?.aborted) throw error;
  }
  throw new ApiError(0, { message: "the connection ended before the answer was whole; ask again" });
}

async function send(path, { method, body, signal = null }) {
  const headers = { accept: "application/json" };
  if (key) headers.authorization = `Bearer ${key}`;
  if (body !== null) headers["content-type"] = "application/json";
  const text = body === null ? undefined : JSON.stringify(body);
  let response;
  try {
    response = await fetch(path, { method, headers, body: text, signal, credentials: "omit" });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, { message: "the server does not answer; is it still running?" });
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function readJson(response) {
  try {
    return await response.json();
  } catch {
    throw new ApiError(response.status, { message: "the answer was cut short; try again" });
  }
}

async function refusal(response) {
  try {
    return new ApiError(response.status, (await response.json()).error);
  } catch {
    return new ApiError(response.status, { message: `the server answered ${response.status}` });
  }
}
