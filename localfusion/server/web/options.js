// The choices beside a question: who answers, by which policy, and who judges.

import { fill, freshId, h } from "./dom.js";

/** The policies of the server, with what each does; a test compares the names. */
export const POLICIES = {
  fuse: "the judge writes one answer from the drafts",
  select: "the judge picks the best draft, word for word",
  vote: "equal answers are counted",
  consensus: "counted; no judge where all agree",
  verify: "code is run, arithmetic done again",
  cascade: "a cheap member first",
  self_fusion: "samples of one model",
  layered: "a second round with all drafts in view",
  auto: "by the kind of the question",
  single: "one model, no panel",
};

export const ORDERS = {
  arrival: "as they came",
  fixed: "as the preset lists them",
  random: "shuffled by the seed",
};

// Others ask the panel anew, and a replay asks nobody of it.
const JUDGED = ["fuse", "select", "vote", "consensus", "verify", "auto"];
export const REPLAY_POLICIES = Object.fromEntries(JUDGED.map((name) => [name, POLICIES[name]]));
export const REPLAY_ORDERS = { ...ORDERS, reversed: "the other way round than it was" };

const ANALYSES = {
  separate: "a call of its own, in five parts",
  inline: "in front of the answer, not shown",
  none: "no comparison",
};

/** A labelled list to choose from; the empty value is the preset's own. */
export function choice(label, entries, whatever = "as the preset says") {
  const id = freshId("choice");
  const select = h("select", { id }, h("option", { value: "" }, whatever));
  for (const [value, meaning] of Object.entries(entries)) {
    select.append(h("option", { value }, meaning ? `${value}: ${meaning}` : value));
  }
  return { select, element: h("div", { class: "field" }, h("label", { for: id }, label), select) };
}

/** The models that can judge, for `choice`. */
export function judges(catalog) {
  return Object.fromEntries(catalog.models.map((model) => [model.id, ""]));
}

/** The options of a question. */
export class Options {
  constructor() {
    const id = freshId("model");
    this.model = h("select", { id, onchange: () => this.adapt() });
    this.picker = h("div", { class: "picker" }, h("label", { for: id }, "Ask"), this.model);
    this.policy = choice("Policy", POLICIES);
    this.analysis = choice("Comparison", ANALYSES);
    this.judge = null;
    this.place = h("div", { class: "field" });
    this.more = h(
      "details",
      { class: "options" },
      h("summary", {}, "Options"),
      h("div", { class: "fields" }, this.policy.element, this.place, this.analysis.element),
    );
    this.presets = new Set();
  }

  /** Offer what the server answers for, and keep what was chosen if it is still there. */
  offer(catalog, wanted = null) {
    const before = wanted ?? (this.model.value || catalog.first);
    this.presets = new Set(catalog.presets.map((preset) => preset.id));
    fill(
      this.model,
      group("Presets", catalog.presets, (entry) => entry.preset),
      group("Single models", catalog.models, (entry) => entry.id),
    );
    const ids = [...catalog.presets, ...catalog.models].map((entry) => entry.id);
    if (ids.includes(before)) this.model.value = before;
    const judge = this.judge?.select.value ?? "";
    this.judge = choice("Judge", judges(catalog));
    this.judge.select.value = judge;
    this.place.replaceWith(this.judge.element);
    this.place = this.judge.element;
    this.adapt();
  }

  adapt() {
    const isPreset = this.presets.has(this.model.value);
    for (const one of [this.policy, this.analysis, this.judge]) one.select.disabled = !isPreset;
  }

  /** Return the body of a chat completion that asks `question`. */
  body(question) {
    const fusion = { stream_panel: true };
    if (this.presets.has(this.model.value)) {
      if (this.policy.select.value) fusion.policy = this.policy.select.value;
      if (this.analysis.select.value) fusion.analysis = this.analysis.select.value;
      if (this.judge.select.value) fusion.model = this.judge.select.value;
    }
    return {
      model: this.model.value,
      messages: [{ role: "user", content: question }],
      stream: true,
      fusion,
    };
  }
}

function group(label, entries, name) {
  if (!entries.length) return null;
  const options = entries.map((entry) => h("option", { value: entry.id }, name(entry)));
  return h("optgroup", { label }, options);
}
