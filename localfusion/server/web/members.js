// The panel side by side: a card for each member, its text as it comes.

import { fill, h, say, set } from "./dom.js";
import { count, seconds } from "./format.js";
import { numberOf } from "./notes.js";
import { LongText } from "./text.js";

const STATES = {
  asked: "reading",
  thinking: "thinking",
  writing: "writing",
  done: "done",
  cut: "not needed",
  lost: "lost",
};
const GROWING = ["asked", "thinking", "writing"];
const NEAR = 24;

class Card {
  constructor(member) {
    this.thoughts = new LongText("is-thought");
    this.text = new LongText();
    this.state = h("span", { class: "state" });
    this.facts = h("p", { class: "facts" });
    this.why = h("p", { class: "why", hidden: true });
    this.thinking = h(
      "details",
      { class: "thinking", hidden: true },
      h("summary", {}, "Reasoning"),
      this.thoughts.element,
    );
    const name = `Answer of member ${member.number}, ${member.model}`;
    this.scroller = h(
      "div",
      { class: "scroll", tabindex: "0", role: "group", "aria-label": name },
      this.thinking,
      this.text.element,
    );
    this.element = h(
      "article",
      { class: "card", "data-state": "asked" },
      h(
        "h3",
        {},
        numberOf(member),
        " ",
        h("span", { class: "model" }, member.model),
        " ",
        this.state,
      ),
      this.why,
      this.scroller,
      this.facts,
    );
  }

  /** Whether it still grows, and one looks at its end. */
  get isFollowing() {
    if (!GROWING.includes(this.element.dataset.state)) return false;
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    return scrollHeight - scrollTop - clientHeight < NEAR;
  }

  /** Show what was written last; a whole answer is read from its beginning. */
  follow() {
    const isWhole = !GROWING.includes(this.element.dataset.state);
    this.scroller.scrollTop = isWhole ? 0 : Number.MAX_SAFE_INTEGER;
  }

  update(member, isOver) {
    const state = isOver && member.candidate === null ? "stopped" : member.state;
    set(this.element, "data-state", state);
    say(this.state, STATES[state] ?? state);
    this.text.set(member.text);
    this.thoughts.set(member.reasoning);
    this.thinking.hidden = member.reasoning === "";
    if (member.candidate !== null) this.complete(member);
  }

  complete({ candidate, checks }) {
    say(this.facts, facts(candidate));
    const found = [
      candidate.failure_reason && candidate.failure_reason !== "not_needed"
        ? [h("code", {}, candidate.failure_reason), candidate.error ? ` ${candidate.error}` : ""]
        : null,
      candidate.is_partial ? " The judge read what there is." : null,
      candidate.is_rescued ? "It only thought at first, and was asked once more." : null,
      ...checks.map((check) => `Check of ${check.kind}: ${check.outcome} ${check.detail}`),
    ].filter(Boolean);
    this.why.hidden = found.length === 0;
    if (found.length !== this.why.childElementCount) {
      fill(this.why, ...found.map((one) => h("span", {}, one)));
    }
  }
}

function facts(candidate) {
  const usage = candidate.usage;
  const ends = { length: "cut at its token limit", content_filter: "stopped by a filter" };
  return [
    seconds(candidate.seconds),
    candidate.first_token_seconds === null
      ? null
      : `first word ${seconds(candidate.first_token_seconds)}`,
    usage.completion_tokens ? `${count(usage.completion_tokens)} tokens` : null,
    ends[candidate.finish_reason],
  ]
    .filter(Boolean)
    .join(" · ");
}

/** The cards of a run's members. */
export class Members {
  constructor() {
    this.cards = new Map();
    this.grid = h("div", { class: "members" });
    this.element = h("section", { class: "panel", hidden: true }, h("h2", {}, "Panel"), this.grid);
  }

  /** @param {import("./run.js").Run} run */
  update(run) {
    const members = run.members;
    this.element.hidden = members.length === 0;
    for (const member of members) {
      if (this.cards.has(member.index)) continue;
      const card = new Card(member);
      this.cards.set(member.index, card);
      this.grid.append(card.element);
    }
    // All is measured before anything is written: else every card would be laid out anew.
    const following = members
      .filter((member) => this.cards.get(member.index).isFollowing)
      .map((member) => this.cards.get(member.index));
    for (const member of members) this.cards.get(member.index).update(member, run.isOver);
    for (const card of following) card.follow();
  }

  /** Mark the cards of a model, and move there; again: take the marks away. */
  mark(model, run) {
    const wanted = new Set(run.by(model).map((member) => member.index));
    const isMarked = this.grid.dataset.marked === model;
    this.grid.dataset.marked = isMarked ? "" : model;
    for (const [index, card] of this.cards) {
      card.element.classList.toggle("is-marked", !isMarked && wanted.has(index));
    }
    const first = this.cards.get(Math.min(...wanted));
    if (!isMarked && first) first.scroller.focus();
  }
}
