// One run as it was: request, panel, comparison, answer, timeline; and what else could have been.

import { Analysis } from "./analysis.js";
import { Answer } from "./answer.js";
import { ApiError, call } from "./api.js";
import { comparison } from "./compare.js";
import { fill, h } from "./dom.js";
import { explanation } from "./explain.js";
import { moment } from "./format.js";
import { Members } from "./members.js";
import { badge, errorNote, loading, statusMeaning, title } from "./notes.js";
import { fact } from "./presets.js";
import { replay } from "./replay.js";
import { Run } from "./run.js";
import { copyButton, longText } from "./text.js";
import { Timeline } from "./timeline.js";

/** @param {string} id Of the trace. */
export function traceView(root, _parameters, id) {
  const place = h("div", {}, loading());
  fill(root, title("Trace"), place);
  load(place, id);
}

async function load(place, id) {
  try {
    const trace = await call(`/v1/traces/${encodeURIComponent(id)}`);
    fill(
      place,
      parts(trace, () => load(place, id)),
    );
  } catch (error) {
    const isMissing = error instanceof ApiError && error.status === 404;
    fill(place, isMissing ? missing(id) : errorNote(error));
  }
}

function missing(id) {
  return h(
    "p",
    { class: "note" },
    "There is no trace ",
    h("code", {}, id),
    "; it may be too old, or another key's.",
  );
}

function parts(trace, again) {
  const run = new Run();
  for (const event of trace.events ?? []) run.see(event);
  if (trace.answer) run.finish(trace.answer);
  else if (trace.error) run.fail(trace.error);
  else if (trace.status !== "running") run.stop("interrupted");
  const members = new Members();
  const analysis = new Analysis((model) => members.mark(model, run));
  const answer = new Answer();
  const timeline = new Timeline();
  for (const part of [members, analysis, answer]) part.update(run);
  timeline.update(run, run.at);
  return h(
    "div",
    { class: "run is-over" },
    head(trace, again),
    KEPT[contentOf(trace)] && h("p", { class: "note" }, KEPT[contentOf(trace)]),
    request(trace),
    trace.error && h("div", { class: "note is-bad" }, h("p", {}, trace.error.message)),
    answer.element,
    members.element,
    analysis.element,
    timeline.element,
    // Without the texts there is nothing to compare, and nothing that a judge could read.
    isWhole(trace) && [
      explanation(trace, run),
      comparison(texts(run)),
      replay(trace, run),
      prompts(trace),
    ],
    versions(trace),
  );
}

const KEPT = {
  hash: "Of its texts the server kept digests alone (traces.content: hash).",
  none: "The server kept no texts of it (traces.content: none); times, models and counts it did.",
};

function contentOf(trace) {
  return trace.content ?? "full";
}

function isWhole(trace) {
  return contentOf(trace) === "full";
}

function head(trace, again) {
  return h(
    "div",
    { class: "status" },
    // With an answer, it says so itself.
    !trace.answer &&
      h(
        "p",
        {},
        badge(trace.status),
        h("span", {}, statusMeaning(trace.status)),
        trace.reason && [" Reason: ", h("code", {}, trace.reason), "."],
      ),
    trace.status === "running" &&
      h("button", { type: "button", class: "quiet", onclick: again }, "Look again"),
    h(
      "dl",
      { class: "line-of-facts" },
      fact("When", moment(trace.created)),
      trace.preset && fact("Preset", trace.preset),
      trace.policy && fact("Policy", trace.policy),
      trace.judge && fact("Judge", trace.judge),
      trace.key && fact("Key", trace.key),
      trace.replay_of &&
        fact("Replay of", h("a", { href: `#/trace/${trace.replay_of}` }, trace.replay_of)),
      fact(
        "Id",
        h("code", {}, trace.id),
        " ",
        copyButton("Copy", () => trace.id),
      ),
    ),
  );
}

function request(trace) {
  const messages = trace.request?.messages ?? [];
  if (messages.length === 0 || contentOf(trace) === "none") return null;
  const last = messages.at(-1);
  const before = messages.slice(0, -1);
  const changes = Object.entries(trace.request.changes ?? {});
  return h(
    "section",
    {},
    h("h2", {}, "Question"),
    before.length > 0 && turns(`${before.length} turns before it`, before),
    longText(content(last), "is-question"),
    changes.length > 0 &&
      h(
        "p",
        { class: "facts" },
        "Asked with ",
        changes.map(([name, value]) => [h("code", {}, `${name}: ${JSON.stringify(value)}`), " "]),
      ),
  );
}

function turns(name, messages) {
  return h(
    "details",
    {},
    h("summary", {}, name),
    messages.map((one) =>
      h("div", { class: "turn" }, h("h3", {}, one.role), longText(content(one))),
    ),
  );
}

function content(message) {
  return typeof message.content === "string"
    ? message.content
    : JSON.stringify(message.content ?? "", null, 1);
}

function texts(run) {
  const found = run.members
    .filter((member) => member.text)
    .map((member) => ({ name: `${member.number} ${member.model}`, text: member.text }));
  if (run.text) found.push({ name: "the answer", text: run.text });
  return found;
}

function prompts(trace) {
  const found = trace.prompts ?? [];
  if (found.length === 0) return null;
  return h(
    "section",
    {},
    h("h2", {}, "Prompts as they were sent"),
    found.map((prompt) => turns(`${prompt.stage}, ${prompt.model}`, prompt.messages ?? [])),
  );
}

function versions(trace) {
  const told = trace.versions;
  if (!told) return null;
  const engines = Object.entries(told.engines ?? {}).map(([model, engine]) =>
    fact(
      model,
      [engine.version, engine.weights && h("code", {}, engine.weights.slice(0, 16))]
        .filter(Boolean)
        .map((one) => [one, " "]),
    ),
  );
  return h(
    "details",
    { class: "versions" },
    h("summary", {}, "Versions"),
    h(
      "dl",
      {},
      fact("localfusion", told.localfusion),
      engines,
      told.prompts && fact("Prompts", h("code", {}, told.prompts.slice(0, 16))),
      told.config && fact("models.yaml", h("code", {}, told.config.slice(0, 16))),
    ),
  );
}
