// Two texts of a run in one: what the second has otherwise is marked word by word.

import { diff } from "./diff.js";
import { fill, freshId, h } from "./dom.js";
import { count, percent } from "./format.js";

const MOST_PARTS = 600;

/** Show how one text became another. */
export function compared(before, after) {
  const { parts, share, isWhole } = diff(before, after);
  const pieces = parts.slice(0, MOST_PARTS).map(({ kind, text }) => {
    if (kind === "same") return shortened(text);
    return h(kind === "gone" ? "del" : "ins", {}, shortened(text));
  });
  return [
    h(
      "p",
      { class: "facts" },
      `${percent(share)} of the text stands in both.`,
      !isWhole && " The texts are too long or too different to be compared to their ends.",
      parts.length > MOST_PARTS && ` The first ${count(MOST_PARTS)} differences are shown.`,
    ),
    h(
      "div",
      {
        class: "text diff",
        dir: "auto",
        tabindex: "0",
        role: "group",
        "aria-label": "Differences",
      },
      pieces,
    ),
  ];
}

const LONGEST = 4000;

function shortened(text) {
  if (text.length <= LONGEST) return text;
  return `${text.slice(0, LONGEST)}… [${count(text.length - LONGEST)} characters left out]`;
}

/**
 * Let one choose two texts and see what differs.
 * @param {{name: string, text: string}[]} texts
 */
export function comparison(texts) {
  if (texts.length < 2) return null;
  const result = h("div", {});
  const [left, right] = [0, 1].map((place) => picker(texts, place, show));
  function show() {
    fill(result, compared(texts[left.select.value].text, texts[right.select.value].text));
  }
  show();
  return h(
    "section",
    { class: "compare" },
    h("h2", {}, "Differences"),
    h("div", { class: "fields" }, left.element, right.element),
    h(
      "p",
      { class: "fine" },
      h("del", {}, "only in the first"),
      " ",
      h("ins", {}, "only in the second"),
    ),
    result,
  );
}

function picker(texts, chosen, changed) {
  const id = freshId("text");
  const options = texts.map((one, place) => h("option", { value: place }, one.name));
  const select = h("select", { id, onchange: changed }, options);
  select.value = `${chosen}`;
  const label = chosen === 0 ? "From" : "To";
  return { select, element: h("div", { class: "field" }, h("label", { for: id }, label), select) };
}
