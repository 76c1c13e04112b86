// Text of models and of other people: shown as it is, cut where it is long, its controls visible.

import { fill, h, say, visible } from "./dom.js";
import { count } from "./format.js";

const FIRST = 6000;
const MORE = 60000;

/**
 * A text that may grow while it is shown. Only its beginning stands in the document, with a note of
 * how much there is; a page with ten million characters in it would not scroll any more.
 */
export class LongText {
  /** @param {string} kind A class of its element. */
  constructor(kind = "") {
    this.whole = "";
    this.limit = FIRST;
    this.shown = 0;
    this.leaf = document.createTextNode("");
    this.body = h("div", { class: `text ${kind}`, dir: "auto" }, this.leaf);
    this.amount = h("span");
    this.more = h("button", { type: "button", class: "quiet small", onclick: () => this.show() });
    this.note = h("p", { class: "cut", hidden: true }, this.amount, " ", this.more);
    this.element = h("div", { class: "long" }, this.body, this.note);
  }

  /** Show a text; one that goes on from what is shown is only added to. */
  set(whole) {
    if (whole === this.whole) return;
    const isSame = whole.slice(0, this.shown) === this.whole.slice(0, this.shown);
    if (!isSame || whole.length < this.shown) {
      this.shown = 0;
      this.leaf.data = "";
    }
    this.whole = whole;
    this.extend();
  }

  show() {
    this.limit += MORE;
    this.extend();
  }

  extend() {
    let end = Math.min(this.whole.length, this.limit);
    // Half of a character outside of the first plane would be shown as garbage.
    if (end < this.whole.length && isHigh(this.whole.charCodeAt(end - 1))) end -= 1;
    if (end > this.shown) this.leaf.appendData(visible(this.whole.slice(this.shown, end)));
    this.shown = end;
    const isCut = end < this.whole.length;
    this.note.hidden = !isCut;
    if (isCut) {
      say(this.amount, `${count(end)} of ${count(this.whole.length)} characters are shown.`);
      say(this.more, `Show ${count(Math.min(MORE, this.whole.length - end))} more`);
    }
  }
}

function isHigh(code) {
  return code >= 0xd800 && code <= 0xdbff;
}

/** Return an element with a text that does not change. */
export function longText(text, kind) {
  const shown = new LongText(kind);
  shown.set(text);
  return shown.element;
}

/** Return a button that copies what `text` returns; null where the browser does not allow it. */
export function copyButton(label, text) {
  if (!navigator.clipboard) return null;
  const button = h("button", { type: "button", class: "quiet small" }, label);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text());
      fill(button, "Copied");
    } catch {
      fill(button, "The browser refused");
    }
    setTimeout(() => fill(button, label), 2000);
  });
  return button;
}
