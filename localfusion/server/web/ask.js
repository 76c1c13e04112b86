// The view in which one asks: a question, who is to answer it, and the answer as it comes to be.

import { onKey } from "./api.js";
import { Asking } from "./asking.js";
import { fill, h, set } from "./dom.js";
import { catalog } from "./models.js";
import { errorNote, title } from "./notes.js";
import { Options } from "./options.js";

/** Build the view; it lives as long as the page, so that a run goes on behind other views. */
export function askView() {
  const view = new Ask();
  onKey(() => view.load());
  return view;
}

class Ask {
  constructor() {
    this.asking = null;
    this.options = new Options();
    this.question = h("textarea", {
      id: "question",
      rows: "3",
      required: true,
      placeholder: "What should the panel answer?",
      onkeydown: (event) => {
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.submit(event);
      },
    });
    this.start = h("button", { class: "main", title: "Ctrl+Enter" }, "Ask");
    this.halt = h(
      "button",
      { type: "button", class: "main is-stop", onclick: () => this.stop() },
      "Stop",
    );
    this.halt.hidden = true;
    this.trouble = h("div", {});
    this.place = h("div", {}, welcome());
    this.element = h(
      "div",
      { class: "view" },
      title("Ask the panel"),
      this.trouble,
      h(
        "form",
        { class: "question", onsubmit: (event) => this.submit(event) },
        h("label", { for: "question", class: "unseen" }, "Question"),
        this.question,
        h(
          "div",
          { class: "bar-of-tools" },
          this.options.picker,
          this.options.more,
          this.start,
          this.halt,
        ),
      ),
      this.place,
    );
  }

  /** Load what can be asked; called whenever the view is shown. */
  async load(parameters = new URLSearchParams()) {
    try {
      this.options.offer(await catalog(), parameters.get("model"));
      fill(this.trouble);
    } catch (error) {
      fill(this.trouble, errorNote(error));
    }
  }

  async submit(event) {
    event.preventDefault();
    const question = this.question.value;
    if (!question.trim() || this.asking !== null) return;
    this.asking = new Asking(this.options.body(question));
    fill(this.place, this.asking.element);
    this.show(true);
    await this.asking.ask();
    this.asking = null;
    this.show(false);
  }

  stop() {
    this.asking?.stop();
  }

  show(isAsking) {
    const hadFocus = document.activeElement === this.halt || document.activeElement === this.start;
    this.start.hidden = isAsking;
    this.halt.hidden = !isAsking;
    // The button that had the focus is gone; the other one stands in its place.
    if (hadFocus) (isAsking ? this.halt : this.start).focus();
    set(this.element, "aria-busy", isAsking ? "true" : null);
  }
}

function welcome() {
  const step = (name, text) => h("li", {}, h("strong", {}, name), " ", text);
  return h(
    "ol",
    { class: "welcome" },
    step(
      "The panel answers.",
      "Several models of this machine are asked at once; you watch them write.",
    ),
    step("A judge compares.", "It reads their answers, names what they agree and differ on."),
    step(
      "One answer comes.",
      "With who was lost, what was waited for, and how much of it was cached.",
    ),
  );
}
