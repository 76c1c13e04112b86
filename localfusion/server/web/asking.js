// One question on its way: the stream, the clock, the parts that show it.

import { stream } from "./api.js";
import { Analysis } from "./analysis.js";
import { Answer } from "./answer.js";
import { batched, fill, h, say } from "./dom.js";
import { seconds } from "./format.js";
import { Members } from "./members.js";
import { errorNote } from "./notes.js";
import { Run } from "./run.js";
import { Timeline } from "./timeline.js";

const TICK_MILLISECONDS = 250;

export class Asking {
  /** @param {object} body Of the chat completion. */
  constructor(body) {
    this.body = body;
    this.run = new Run();
    this.error = null;
    this.cancel = new AbortController();
    this.began = performance.now();
    this.members = new Members();
    this.analysis = new Analysis((model) => this.members.mark(model, this.run));
    this.answer = new Answer();
    this.timeline = new Timeline();
    // Told once for each phase: a clock in it would be read aloud all the time.
    this.phase = h("p", { class: "phase", role: "status" });
    this.clock = h("span", { class: "figure", "aria-hidden": "true" });
    this.jump = h(
      "button",
      { type: "button", class: "quiet small", hidden: true },
      "To the answer",
    );
    this.jump.addEventListener("click", () => this.answer.focus());
    this.trouble = h("div", {});
    this.link = h("p", { class: "foot" });
    this.element = h(
      "div",
      { class: "run" },
      h("div", { class: "progress" }, this.phase, this.clock, this.jump),
      this.trouble,
      this.members.element,
      this.analysis.element,
      this.answer.element,
      this.timeline.element,
      this.link,
    );
    this.changed = batched(() => this.render());
  }

  /** Ask, and return when it is over, one way or the other. */
  async ask() {
    const ticking = setInterval(this.changed, TICK_MILLISECONDS);
    this.render();
    try {
      for await (const chunk of stream("/v1/chat/completions", this.body, this.cancel.signal)) {
        if (!chunk.fusion_event) continue;
        this.run.see(chunk.fusion_event);
        this.changed();
      }
    } catch (error) {
      if (this.cancel.signal.aborted) {
        this.run.stop("stopped");
      } else {
        this.error = error;
        this.run.fail(error);
      }
    } finally {
      clearInterval(ticking);
      this.render();
    }
  }

  stop() {
    this.cancel.abort();
  }

  get elapsed() {
    return (performance.now() - this.began) / 1000;
  }

  render() {
    const { run } = this;
    say(this.phase, told(run));
    const isOver = run.isOver;
    this.element.classList.toggle("is-over", isOver);
    say(
      this.clock,
      seconds(isOver && run.answer ? run.answer.seconds : isOver ? run.at : this.elapsed),
    );
    if (this.error !== null && !this.trouble.hasChildNodes())
      fill(this.trouble, errorNote(this.error));
    this.members.update(run);
    this.analysis.update(run);
    this.answer.update(run);
    this.jump.hidden = this.answer.element.hidden;
    this.timeline.update(run, this.elapsed);
    if (isOver && run.id !== null && !this.link.hasChildNodes()) {
      fill(this.link, h("a", { href: `#/trace/${run.id}` }, "Open its trace"));
    }
  }
}

/** Say what goes on, in a sentence that changes a few times in a run. */
function told(run) {
  const { members } = run;
  const lost = run.lost.length ? `, ${run.lost.length} lost` : "";
  switch (run.phase) {
    case "waiting":
      return "Asked; nothing has begun yet";
    case "panel": {
      const done = members.filter((member) => member.candidate !== null).length;
      return `The panel answers: ${done} of ${Math.max(members.length, run.asked.length)}${lost}`;
    }
    case "analysis":
      return `${run.analysis.judge} compares the answers${lost}`;
    case "reading":
      return `${run.syntheses.at(-1)?.judge ?? run.preset} reads, and will write the answer${lost}`;
    case "writing":
      return `${run.settled.model} writes the answer${lost}`;
    case "stopped":
      return "Stopped";
    case "failed":
      return "It failed";
    default:
      return `Answered by ${run.answer.model}, ${run.answer.status}${lost}`;
  }
}
