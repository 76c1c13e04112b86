// Where each sentence of an answer stands in the drafts, and what the answer hung on.

import { call } from "./api.js";
import { fill, freshId, h, set } from "./dom.js";
import { percent } from "./format.js";
import { errorNote, loading } from "./notes.js";

/**
 * Build the section that explains a trace; null where there was no panel or no answer.
 * @param {object} trace As the API tells it.
 * @param {import("./run.js").Run} run
 */
export function explanation(trace, run) {
  if (run.members.length === 0 || !trace.answer) return null;
  const address = `/v1/traces/${encodeURIComponent(trace.id)}/explain`;
  const place = h("div", {}, loading());
  show(place, call(address));
  return h(
    "section",
    { class: "explain" },
    h("h2", {}, "Where the answer comes from"),
    place,
    h("h3", {}, "What it hung on"),
    h(
      "p",
      { class: "fine" },
      "The judge is asked once more as it was, without each draft, and in reversed order; the panel is not.",
    ),
    asking(address, place),
  );
}

function asking(address, place) {
  const id = freshId("expect");
  const expect = h("input", { id, type: "text", maxlength: 2000, placeholder: "if it is known" });
  const button = h("button", { class: "quiet" }, "Find the cause");
  const submit = async (event) => {
    event.preventDefault();
    set(button, "disabled", true);
    fill(place, loading("The judge answers again, several times…"));
    const body = expect.value.trim() ? { expect: expect.value.trim() } : {};
    await show(place, call(address, { method: "POST", body }));
    set(button, "disabled", false);
  };
  return h(
    "form",
    { class: "fields", onsubmit: submit },
    h("div", { class: "field" }, h("label", { for: id }, "The right answer"), expect),
    button,
  );
}

async function show(place, asked) {
  try {
    fill(place, told(await asked));
  } catch (error) {
    fill(place, errorNote(error));
  }
}

const BLAMED = {
  panel: "The panel",
  judge: "The judge",
  member: "One member",
  interaction: "How drafts and judge worked together",
  none: "Nothing to put it down to",
};

function told({ verdict, words, evidence, sentences, candidates, replays }) {
  const said = sentences.filter((sentence) => !sentence.is_blank);
  const own = said.filter((sentence) => sentence.support.length === 0).length;
  return [
    replays.length > 0 &&
      h(
        "div",
        { class: "note", role: "status" },
        h("p", {}, h("strong", {}, `${BLAMED[verdict] ?? verdict}: `), words),
        evidence.length > 0 && h("ul", {}, evidence.map((line) => h("li", {}, line))),
      ),
    h(
      "p",
      { class: "fine" },
      `${own} of ${said.length} sentences stand in no draft. Words are compared, not meanings; numbers and negations exactly.`,
    ),
    h("ol", { class: "sentences" }, said.map((sentence) => row(sentence, candidates))),
  ];
}

function row({ text, support, against }, candidates) {
  const name = ({ index }) => `${index + 1} ${candidates[index]}`;
  const kind = support.length > 0 ? "is-backed" : against.length > 0 ? "is-disputed" : "is-own";
  const who = [
    support.length > 0 ? support.map(name).join(", ") : "in no draft",
    against.length > 0 && `otherwise in ${against.map(name).join(", ")}`,
  ];
  const places = [
    ...support.map((one) => [`${name(one)}, ${percent(one.score)}`, one.text]),
    ...against.map((one) => [`${name(one)}, otherwise`, one.text]),
  ];
  const line = [
    h("span", { class: "said", dir: "auto" }, text.trim()),
    h("span", { class: "who" }, who.filter(Boolean).join("; ")),
  ];
  return h(
    "li",
    { class: kind },
    places.length === 0
      ? line
      : h(
          "details",
          {},
          h("summary", {}, line),
          h("dl", {}, places.map(([where, what]) => [h("dt", {}, where), h("dd", { dir: "auto" }, what)])),
        ),
  );
}
