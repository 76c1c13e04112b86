// Vercel's AI SDK: through its provider for OpenAI-compatible servers, and through Open Responses.
import assert from "node:assert/strict";
import { test } from "node:test";
import { createOpenResponses } from "@ai-sdk/open-responses";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, Output, streamText, tool } from "ai";
import { z } from "zod";

const apiKey = process.env.OPENAI_API_KEY;
const baseURL = process.env.OPENAI_BASE_URL;
const name = process.env.CONFORMANCE_MODEL;
const compatible = createOpenAICompatible({
  name: "localfusion", baseURL, apiKey, includeUsage: true, supportsStructuredOutputs: true,
});
const responses = createOpenResponses({ name: "localfusion", apiKey, url: `${baseURL}/responses` });
const prompt = "How many pens?";
const tools = {
  weather: tool({ description: "Tell the weather of a city.", inputSchema: z.object({ city: z.string() }) }),
};

test("stream and usage", async () => {
  const result = streamText({ model: compatible(name), prompt, maxRetries: 0 });
  let text = "";
  for await (const piece of result.textStream) text += piece;
  assert.ok(text);
  assert.equal(await result.finishReason, "stop");
  assert.ok((await result.usage).totalTokens > 0);
});

test("object by a schema", async () => {
  const { output } = await generateText({
    model: compatible(name), prompt, maxRetries: 0,
    output: Output.object({ schema: z.object({ pens: z.number() }) }),
  });
  assert.equal(typeof output.pens, "number");
});

test("function call", async () => {
  const result = await generateText({
    model: compatible(name), prompt, tools, toolChoice: "required", maxRetries: 0,
  });
  assert.equal(result.finishReason, "tool-calls");
  assert.equal(result.toolCalls[0].toolName, "weather");
});

test("unknown model", async () => {
  await assert.rejects(
    generateText({ model: compatible("no-such-model"), prompt, maxRetries: 0 }),
    (error) => error.statusCode === 404,
  );
});

test("response", async () => {
  const result = await generateText({ model: responses(name), prompt, maxRetries: 0 });
  assert.ok(result.text);
});

test("response streamed", async () => {
  const result = streamText({ model: responses(name), prompt, maxRetries: 0 });
  let text = "";
  for await (const piece of result.textStream) text += piece;
  assert.ok(text);
});

test("function call in a response", async () => {
  const result = await generateText({
    model: responses(name), prompt, tools, toolChoice: "required", maxRetries: 0,
  });
  assert.equal(result.toolCalls[0].toolName, "weather");
});
