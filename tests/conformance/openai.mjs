// OpenAI's client for Node: streams, helpers, functions, leaving, errors.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import OpenAI from "openai";

const model = process.env.CONFORMANCE_MODEL;
const client = new OpenAI({ maxRetries: 0 });
const messages = [{ role: "user", content: "How many pens?" }];
const weather = {
  type: "function",
  function: {
    name: "weather",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};

test("answer", async () => {
  const answer = await client.chat.completions.create({ model, messages });
  assert.ok(answer.choices[0].message.content);
  assert.equal(answer.choices[0].finish_reason, "stop");
  assert.ok(answer.usage.total_tokens > 0);
});

test("stream with usage", async () => {
  const stream = await client.chat.completions.create({
    model, messages, stream: true, stream_options: { include_usage: true },
  });
  let text = "", usage, finish;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    finish = chunk.choices[0]?.finish_reason ?? finish;
    usage = chunk.usage ?? usage;
  }
  assert.ok(text);
  assert.equal(finish, "stop");
  assert.ok(usage.total_tokens > 0);
});

test("stream helper's final completion", async () => {
  const stream = client.chat.completions.stream({ model, messages });
  const whole = await stream.finalChatCompletion();
  assert.ok(whole.choices[0].message.content);
});

test("forced function", async () => {
  const answer = await client.chat.completions.create({
    model, messages, tools: [weather],
    tool_choice: { type: "function", function: { name: "weather" } },
  });
  const call = answer.choices[0].message.tool_calls[0];
  assert.equal(call.function.name, "weather");
  assert.equal(typeof JSON.parse(call.function.arguments).city, "string");
});

test("functions are run and their results read", async () => {
  let asked = 0;
  const weatherOf = { ...weather.function, parse: JSON.parse, function: () => { asked += 1; return "sunny"; } };
  const runner = client.chat.completions.runTools({
    model, messages, tools: [{ type: "function", function: weatherOf }],
  });
  assert.ok(await runner.finalContent());
  assert.ok(asked > 0);
});

test("answer by a schema", async () => {
  const schema = {
    type: "object", properties: { pens: { type: "integer" } }, required: ["pens"], additionalProperties: false,
  };
  const answer = await client.chat.completions.create({
    model, messages,
    response_format: { type: "json_schema", json_schema: { name: "pens", strict: true, schema } },
  });
  assert.equal(typeof JSON.parse(answer.choices[0].message.content).pens, "number");
});

test("abort ends the stream", async () => {
  const stream = await client.chat.completions.create({ model, messages, stream: true });
  let chunks = 0;
  for await (const _ of stream) {
    chunks += 1;
    stream.controller.abort();
  }
  assert.equal(chunks, 1);
});

test("unknown model", async () => {
  await assert.rejects(
    client.chat.completions.create({ model: "no-such-model", messages }),
    (error) => error.status === 404 && error.code === "model_not_found",
  );
});

test("response", async () => {
  const response = await client.responses.create({ model, input: "How many pens?" });
  assert.ok(response.output_text);
});

test("response streamed", async () => {
  const stream = client.responses.stream({ model: "plain", input: "How many pens?" });
  const whole = await stream.finalResponse();
  assert.ok(whole.output_text);
});

test("response of a fusion streamed", async () => {
  // Its helper stops at events that it does not know: response.fusion_call.*
  const stream = client.responses.stream({
    model, input: "How many pens?", plugins: [{ id: "fusion", stream_panel: false }],
  });
  const whole = await stream.finalResponse();
  assert.ok(whole.output_text);
});

test("models", async () => {
  const names = [];
  for await (const entry of client.models.list()) names.push(entry.id);
  assert.ok(names.includes(model));
  assert.equal((await client.models.retrieve(model)).id, model);
});

test("the README's example", async () => {
  const [, block] = readFileSync(process.env.CONFORMANCE_README, "utf8").match(/^```js\n(.*?)^```/ms);
  const code = block.replaceAll("http://127.0.0.1:8000/v1", process.env.OPENAI_BASE_URL)
    .replaceAll("localfusion/demo", model);
  writeFileSync("readme.mjs", code);
  const printed = [], print = console.log;
  console.log = (...words) => printed.push(words.join(" "));
  try {
    await import(`${process.cwd()}/readme.mjs`);
  } finally {
    console.log = print;
  }
  assert.ok(printed.join("\n").trim());
});
