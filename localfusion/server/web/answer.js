// The answer, who wrote it, and how whole it is.

import { fill, h, say } from "./dom.js";
import { count, seconds } from "./format.js";
import { badge, statusMeaning } from "./notes.js";
import { totals } from "./run.js";
import { copyButton, LongText } from "./text.js";

export class Answer {
  constructor() {
    this.text = new LongText("is-answer");
    this.thoughts = new LongText("is-thought");
    this.who = h("span", { class: "who" });
    this.title = h("h2", { tabindex: "-1" }, "Answer", this.who);
    this.status = h("div", { class: "status" });
    this.calls = h("div", {});
    this.facts = h("p", { class: "facts" });
    this.copy = copyButton("Copy", () => this.text.whole);
    this.thinking = h(
      "details",
      { class: "thinking", hidden: true },
      h("summary", {}, "Reasoning"),
      this.thoughts.element,
    );
    this.element = h(
      "section",
      { class: "answer", hidden: true },
      this.title,
      this.status,
      this.thinking,
      this.text.element,
      this.calls,
      h("div", { class: "foot" }, this.facts, this.copy),
    );
    this.told = "";
  }

  /** Move to it, the eyes and the focus. */
  focus() {
    this.title.focus({ preventScroll: true });
    this.element.scrollIntoView({ block: "center" });
  }

  /** @param {import("./run.js").Run} run */
  update(run) {
    const has = run.text !== "" || run.reasoning !== "" || run.settled !== null || run.answer;
    this.element.hidden = !has;
    if (!has) return;
    this.element.setAttribute("aria-busy", `${!run.isOver}`);
    this.text.set(run.text);
    this.thoughts.set(run.reasoning);
    this.thinking.hidden = run.reasoning === "";
    if (this.copy) this.copy.hidden = !run.isOver;
    this.tell(run);
  }

  /** What changes once or twice in a run is only built anew when it does. */
  tell(run) {
    const told = JSON.stringify([
      run.phase,
      run.settled?.status,
      run.answer?.status,
      run.lost.length,
    ]);
    if (told === this.told) return;
    this.told = told;
    const model = run.answer?.model ?? run.settled?.model;
    say(this.who, model ? `by ${model}` : "");
    fill(this.status, wholeness(run));
    fill(this.calls, run.calls.map(toolCall));
    say(this.facts, run.answer ? facts(run.answer) : "");
  }
}

function wholeness(run) {
  const failed = run.phase === "failed" ? "failed" : null;
  const shown = run.ended ?? failed ?? run.answer?.status ?? run.settled?.status;
  if (!shown) return null;
  const reason = run.answer?.reason ?? run.settled?.reason;
  const lost = run.lost.map((member) =>
    h(
      "li",
      {},
      `${member.number} ${member.model}: `,
      h("code", {}, member.candidate.failure_reason),
    ),
  );
  return [
    h(
      "p",
      {},
      badge(shown),
      h("span", {}, statusMeaning(shown), reason && [" Reason: ", h("code", {}, reason), "."]),
    ),
    run.chosen && h("p", {}, `Word for word what ${run.chosen.number} ${run.chosen.model} wrote.`),
    run.routing && h("p", {}, `Policy ${run.routing.policy}: the question is ${run.routing.task}.`),
    run.settled?.error && h("p", { class: "why" }, run.settled.error),
    lost.length > 0 && h("ul", { class: "lost", "aria-label": "Lost members" }, lost),
  ];
}

function toolCall(call) {
  return h(
    "p",
    { class: "call" },
    "It asks the client to call ",
    h("code", {}, `${call.name}(${call.arguments.slice(0, 2000)})`),
  );
}

function facts(answer) {
  const tokens = totals(answer);
  const cached = tokens.cached ? ` (${count(tokens.cached)} cached)` : "";
  const ends = { length: "cut at its token limit", content_filter: "stopped by a filter" };
  return [
    seconds(answer.seconds),
    `${count(tokens.prompt)} tokens in${cached}`,
    `${count(tokens.completion)} out`,
    ends[answer.finish_reason],
    `seed ${answer.seed}`,
  ]
    .filter(Boolean)
    .join(" · ");
}
