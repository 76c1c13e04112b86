// Small parts that several views show: status words, member numbers, errors, the key's form.

import { ApiError, hasKey, setKey } from "./api.js";
import { freshId, h } from "./dom.js";

const STATUSES = {
  full: ["full", "Every member answered, and the policy ended as planned."],
  degraded: [
    "degraded",
    "A member was lost or cut, the analysis failed, or drafts were cut to fit.",
  ],
  single: ["single", "One voice: a plain model, or the one member that was left."],
  panel_only: [
    "panel only",
    "The judge failed before its first word; a member's answer stands in, word for word.",
  ],
  failed: ["failed", "There is no answer."],
  interrupted: ["interrupted", "The client left, or the server stopped, before the end."],
  running: ["running", "It is on its way."],
  stopped: ["stopped", "You stopped it; what had come by then is shown."],
};

export const STATUS_NAMES = Object.keys(STATUSES).filter((name) => name !== "stopped");

export function statusWord(status) {
  return STATUSES[status]?.[0] ?? `${status}`;
}

/** What a status means, in a sentence. */
export function statusMeaning(status) {
  return STATUSES[status]?.[1] ?? "";
}

export function badge(status) {
  return h("span", { class: `badge is-${tone(status)}` }, statusWord(status));
}

function tone(status) {
  if (status === "full" || status === "single") return "good";
  if (status === "degraded" || status === "panel_only") return "fair";
  return status === "running" ? "busy" : "bad";
}

/** The number of a member, which tells members of one model apart. */
export function numberOf(member) {
  return h("span", { class: "number" }, member.number);
}

/** Tell what went wrong, in the server's words; where a key is missing, ask for it. */
export function errorNote(error) {
  if (error instanceof ApiError && error.needsKey) {
    const title = hasKey() ? "The server does not know this key" : "This server needs an API key";
    return h("section", { class: "note is-bad", role: "alert" }, h("h2", {}, title), keyForm());
  }
  if (!(error instanceof ApiError)) throw error;
  return h(
    "div",
    { class: "note is-bad", role: "alert" },
    h("p", {}, error.message),
    error.code && h("p", { class: "fine" }, "Code ", h("code", {}, error.code)),
  );
}

/** Build the form that takes the API key; `done` is called once it was typed in. */
export function keyForm(done = () => {}) {
  const id = freshId("key");
  const field = h("input", {
    id,
    type: "password",
    autocomplete: "off",
    spellcheck: "false",
    required: true,
  });
  const submit = (event) => {
    event.preventDefault();
    setKey(field.value);
    done();
  };
  return h(
    "form",
    { class: "key-form", onsubmit: submit },
    h("label", { for: id }, "API key"),
    h("div", { class: "line" }, field, h("button", { class: "main" }, "Use this key")),
    h(
      "p",
      { class: "fine" },
      "It is kept in this page's memory alone and forgotten when the page is closed. ",
      h("code", {}, "localfusion keys create NAME"),
      " makes one.",
    ),
  );
}

/** A view's title; the router puts the focus there. */
export function title(text) {
  return h("h1", { tabindex: "-1" }, text);
}

/** Tell that something is on its way. */
export function loading(text = "Loading…") {
  return h("p", { class: "loading", role: "status" }, text);
}
