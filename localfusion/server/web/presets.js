// Presets and models: what can be asked, and of whom it is made.

import { fill, h } from "./dom.js";
import { count } from "./format.js";
import { catalog } from "./models.js";
import { errorNote, loading, title } from "./notes.js";
import { POLICIES } from "./options.js";

export function presetsView(root) {
  const place = h("div", {}, loading());
  fill(root, title("Presets"), place);
  load(place);
}

async function load(place) {
  try {
    const found = await catalog({ isFresh: true });
    fill(
      place,
      h("h2", { class: "unseen" }, "Panels"),
      h(
        "div",
        { class: "tiles" },
        found.presets.map((entry) => presetTile(entry, found.first)),
      ),
      h("h2", {}, "Single models"),
      h("ul", { class: "rows models" }, found.models.map(modelRow)),
    );
  } catch (error) {
    fill(place, errorNote(error));
  }
}

function presetTile(entry, first) {
  const isFirst = entry.id === first;
  return h(
    "article",
    { class: "tile" },
    h("h3", {}, entry.preset, isFirst && h("span", { class: "badge is-good" }, "default")),
    entry.description && h("p", {}, entry.description),
    h(
      "dl",
      {},
      fact("Policy", `${entry.policy}: ${POLICIES[entry.policy] ?? ""}`),
      fact(
        "Panel",
        h(
          "ul",
          { class: "plain" },
          counted(entry.panel).map((line) => h("li", {}, line)),
        ),
      ),
      entry.judge &&
        fact("Judge", entry.judge + (entry.panel.includes(entry.judge) ? " (a member too)" : "")),
      fact("Window", `${count(entry.max_model_len)} tokens`),
    ),
    h("a", { href: `#/ask?model=${encodeURIComponent(entry.id)}` }, `Ask ${entry.preset}`),
  );
}

function counted(panel) {
  return [...new Set(panel)].map((model) => {
    const times = panel.filter((name) => name === model).length;
    return times > 1 ? `${model} × ${times}` : model;
  });
}

function modelRow(entry) {
  return h(
    "li",
    { class: "line-of-facts" },
    h("a", { href: `#/ask?model=${encodeURIComponent(entry.id)}` }, entry.id),
    h("span", {}, entry.owned_by),
    h("span", {}, entry.license ?? ""),
    h("span", { class: "figure" }, `${count(entry.max_model_len)} tokens`),
  );
}

/** A term and what it says, for a `dl`. */
export function fact(term, ...told) {
  return [h("dt", {}, term), h("dd", {}, told)];
}
