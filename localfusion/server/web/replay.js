// The recorded panel once more, with another judge, another policy or without a member.

import { call } from "./api.js";
import { compared } from "./compare.js";
import { fill, h, set } from "./dom.js";
import { seconds } from "./format.js";
import { catalog } from "./models.js";
import { badge, errorNote, loading, numberOf } from "./notes.js";
import { choice, judges, REPLAY_ORDERS, REPLAY_POLICIES } from "./options.js";
import { longText } from "./text.js";

/**
 * Build the form that replays a trace; null where there was no panel.
 * @param {object} trace As the API tells it.
 * @param {import("./run.js").Run} run
 */
export function replay(trace, run) {
  if (run.members.length === 0 || trace.status === "running") return null;
  const policy = choice("Policy", REPLAY_POLICIES, "as it was");
  const order = choice("Order of the drafts", REPLAY_ORDERS, "as it was");
  const place = h("div", { class: "field" });
  const dropped = run.members.map((member) => box(member));
  const result = h("div", {});
  const button = h("button", { class: "main" }, "Replay");
  const wanted = { judge: null, policy, order, dropped };
  offerJudges(place, wanted, result);

  const submit = async (event) => {
    event.preventDefault();
    set(button, "disabled", true);
    fill(result, loading("The judge answers once more…"));
    await again(trace, bodyOf(wanted), result);
    set(button, "disabled", false);
  };
  return h(
    "section",
    { class: "replay" },
    h("h2", {}, "Replay"),
    h(
      "p",
      { class: "fine" },
      "The recorded drafts are judged once more; no member is asked again.",
    ),
    h(
      "form",
      { onsubmit: submit },
      h("div", { class: "fields" }, place, policy.element, order.element),
      h(
        "fieldset",
        {},
        h("legend", {}, "Leave out"),
        dropped.map((one) => one.element),
      ),
      button,
    ),
    result,
  );
}

async function offerJudges(place, wanted, result) {
  try {
    wanted.judge = choice("Judge", judges(await catalog()), "as it was");
    place.replaceWith(wanted.judge.element);
  } catch (error) {
    fill(result, errorNote(error));
  }
}

function box(member) {
  const input = h("input", { type: "checkbox" });
  const element = h("label", { class: "box" }, input, numberOf(member), " ", member.model);
  return { index: member.index, input, element };
}

function bodyOf({ judge, policy, order, dropped }) {
  const body = {};
  if (judge?.select.value) body.judge = judge.select.value;
  if (policy.select.value) body.policy = policy.select.value;
  if (order.select.value) body.order = order.select.value;
  const drop = dropped.filter((one) => one.input.checked).map((one) => one.index);
  if (drop.length > 0) body.drop = drop;
  return body;
}

async function again(trace, body, result) {
  try {
    const told = await call(`/v1/traces/${encodeURIComponent(trace.id)}/replay`, {
      method: "POST",
      body,
    });
    fill(result, outcome(trace, told));
  } catch (error) {
    fill(result, errorNote(error));
  }
}

/** Show both answers, and what the second has otherwise; `told` as the API tells a replay. */
function outcome(trace, { id, original, answer }) {
  const before = original.answer;
  return [
    h(
      "div",
      { class: "members", role: "status" },
      card("As it was", before, original.error ?? trace.error?.message),
      card("Replayed", answer),
    ),
    h(
      "p",
      { class: "facts" },
      "Its time is the judge's alone. ",
      id && h("a", { href: `#/trace/${id}` }, "The replay's own trace"),
    ),
    before && [h("h3", {}, "What the replay changed"), compared(before.text, answer.text)],
  ];
}

function card(name, answer, why) {
  if (!answer) {
    return h(
      "article",
      { class: "card" },
      h("h3", {}, name),
      h("p", { class: "why" }, why ?? "There is no answer."),
    );
  }
  return h(
    "article",
    { class: "card" },
    h("h3", {}, name, badge(answer.status)),
    longText(answer.text),
    h("p", { class: "facts" }, `${answer.model} · ${seconds(answer.seconds)}`),
  );
}
