// The judge's reading of the drafts, in its five parts, and its choice among them.

import { fill, h } from "./dom.js";
import { cssShare, percent } from "./format.js";
import { longText } from "./text.js";

/** What the judge found, as it becomes known. */
export class Analysis {
  /** @param {(model: string) => void} mark Shows what a model wrote. */
  constructor(mark) {
    this.mark = mark;
    this.body = h("div", { class: "analysis" });
    this.element = h(
      "section",
      { class: "judging", hidden: true },
      h("h2", {}, "Judge's comparison"),
      this.body,
    );
    this.shown = null;
  }

  /** @param {import("./run.js").Run} run */
  update(run) {
    const { analysis, verdict } = run;
    const state = [analysis?.judge, analysis?.value, analysis?.error, verdict];
    if (this.shown?.every((part, place) => part === state[place])) return;
    this.shown = state;
    this.element.hidden = !analysis && !verdict;
    fill(
      this.body,
      verdict && this.verdict(run),
      analysis && (analysis.value ? this.parts(analysis.value) : unfinished(analysis, run)),
    );
  }

  verdict(run) {
    const { verdict, judge, error } = run.verdict;
    if (!verdict) return h("p", { class: "why" }, `${judge} gave no usable choice: ${error}`);
    const rows = Object.entries(verdict.probabilities).map(([index, share]) => {
      const member = run.byIndex.get(Number(index));
      return shareRow(member ? `${member.number} ${member.model}` : `draft ${index}`, share);
    });
    return h(
      "div",
      { class: "part" },
      h("h3", {}, `Choice of ${judge}`),
      h("ul", { class: "shares" }, rows, shareRow("write a new answer", verdict.synthesize)),
      verdict.agreement !== null &&
        h("p", { class: "fine" }, `Both orders agree to ${percent(verdict.agreement)}.`),
    );
  }

  parts(analysis) {
    return [
      part("Agreed", analysis.consensus.map(item)),
      part(
        "Contradictions",
        analysis.contradictions.map((one) =>
          h(
            "li",
            {},
            longText(one.topic, "is-topic"),
            one.stances.map((s) => this.said(s.model, s.stance)),
          ),
        ),
      ),
      part(
        "Said by some",
        analysis.partial_coverage.map((one) =>
          h(
            "li",
            {},
            one.models.map((model) => this.name(model)),
            longText(one.point),
          ),
        ),
      ),
      part(
        "Said by one",
        analysis.unique_insights.map((one) => h("li", {}, this.said(one.model, one.insight))),
      ),
      part("Blind spots", analysis.blind_spots.map(item)),
    ];
  }

  said(model, text) {
    return h("div", { class: "said" }, this.name(model), longText(text));
  }

  name(model) {
    const label = `Show what ${model} wrote`;
    const show = () => this.mark(model);
    return h("button", { type: "button", class: "name", title: label, onclick: show }, model);
  }
}

function unfinished(analysis, run) {
  if (analysis.error) return h("p", { class: "why" }, `There is none: ${analysis.error}`);
  return h("p", { class: "fine" }, run.isOver ? "It was not finished." : "The judge compares…");
}

function item(text) {
  return h("li", {}, longText(text));
}

function part(name, items) {
  if (!items.length) return null;
  return h("div", { class: "part" }, h("h3", {}, name), h("ul", {}, items));
}

function shareRow(name, share) {
  const bar = h("span", { class: "share" });
  bar.style.setProperty("--share", cssShare(share));
  return h("li", {}, h("span", {}, name), bar, h("span", { class: "figure" }, percent(share)));
}
