// All answers that were given: newest first, with search and filters.

import { call } from "./api.js";
import { fill, freshId, h } from "./dom.js";
import { count, moment, plural, seconds } from "./format.js";
import { catalog } from "./models.js";
import { badge, errorNote, loading, STATUS_NAMES, statusWord, title } from "./notes.js";

const PAGE = 30;
const FILTERS = ["q", "status", "preset"];

/** @param {URLSearchParams} parameters The filters; they stand in the address. */
export function tracesView(root, parameters) {
  const rows = h("ol", { class: "rows traces" });
  const told = h("p", { class: "fine", role: "status" });
  const more = h("button", { type: "button", class: "quiet", hidden: true }, "Show older ones");
  const place = h("div", {}, loading());
  fill(root, title("Traces"), filters(parameters), place);
  const seen = { rows: 0, cursor: null };

  async function load() {
    more.disabled = true;
    try {
      const page = await call(`/v1/traces?${asked(parameters, seen.cursor)}`);
      if (seen.rows === 0) fill(place, told, rows, more);
      rows.append(...page.data.map(row));
      seen.rows += page.data.length;
      seen.cursor = page.next_cursor;
      more.hidden = !page.has_more;
      fill(told, summary(seen.rows, page.has_more, parameters));
    } catch (error) {
      fill(place, error.status === 404 ? none() : errorNote(error));
    }
    more.disabled = false;
  }

  more.addEventListener("click", load);
  load();
}

function asked(parameters, cursor) {
  const query = new URLSearchParams({ limit: PAGE });
  for (const name of FILTERS) {
    if (parameters.get(name)) query.set(name, parameters.get(name));
  }
  if (cursor) query.set("cursor", cursor);
  return query;
}

function summary(rows, hasMore, parameters) {
  const isFiltered = FILTERS.some((name) => parameters.get(name));
  if (rows === 0) {
    return isFiltered
      ? "No trace is like that."
      : "There is no trace yet: ask something, and it is kept here.";
  }
  const older = hasMore ? ", and older ones" : "";
  return `${plural(rows, "trace")}${older}${isFiltered ? " like that" : ""}.`;
}

function none() {
  return h("p", { class: "note" }, "This server keeps no traces.");
}

function filters(parameters) {
  const search = field("Search", h("input", { type: "search", value: parameters.get("q") ?? "" }));
  const statuses = STATUS_NAMES.map((name) => h("option", { value: name }, statusWord(name)));
  const status = field("Status", h("select", {}, h("option", { value: "" }, "any"), statuses));
  const preset = field("Preset", h("select", {}, h("option", { value: "" }, "any")));
  status.input.value = parameters.get("status") ?? "";
  offerPresets(preset.input, parameters.get("preset") ?? "");

  const go = (event) => {
    event?.preventDefault();
    const query = new URLSearchParams();
    for (const [name, { input }] of Object.entries({ q: search, status, preset })) {
      if (input.value) query.set(name, input.value);
    }
    location.hash = `#/traces?${query}`;
  };
  status.input.addEventListener("change", go);
  preset.input.addEventListener("change", go);
  return h(
    "form",
    { class: "fields filters", role: "search", onsubmit: go },
    search.element,
    status.element,
    preset.element,
    h("button", { class: "quiet" }, "Search"),
  );
}

async function offerPresets(select, chosen) {
  const add = (name) => select.append(h("option", { value: name }, name));
  if (chosen) add(chosen);
  select.value = chosen;
  try {
    const { presets } = await catalog();
    for (const { preset } of presets) if (preset !== chosen) add(preset);
  } catch {
    // The list of traces tells what is wrong; a choice less is no second thing to tell.
  }
}

function field(label, input) {
  const id = freshId("filter");
  input.id = id;
  return { input, element: h("div", { class: "field" }, h("label", { for: id }, label), input) };
}

function row(trace) {
  const tokens = trace.prompt_tokens + trace.completion_tokens;
  return h(
    "li",
    {},
    h(
      "a",
      { class: "trace", href: `#/trace/${trace.id}` },
      h("span", { class: "when" }, moment(trace.created)),
      h("span", { class: "what" }, trace.question || "content is not kept"),
      badge(trace.status),
      h("span", { class: "how" }, [trace.replay_of && "replay", trace.preset, trace.policy].filter(Boolean).join(" · ")),
      h("span", { class: "figure" }, trace.seconds === null ? "–" : seconds(trace.seconds)),
      h("span", { class: "figure tokens" }, tokens ? `${count(tokens)} tokens` : ""),
    ),
  );
}
