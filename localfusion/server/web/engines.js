// The engines: where each is, its share of the plan, and what it does now.

import { call } from "./api.js";
import { fill, h } from "./dom.js";
import { bytes, count, cssShare, percent, seconds } from "./format.js";
import { errorNote, loading, title } from "./notes.js";
import { fact } from "./presets.js";

const PAUSE_MILLISECONDS = 2500;
const GOOD = ["ready"];
const BAD = ["broken", "failed"];

/** Build the view; it looks again every few seconds until it is left. */
export function enginesView(root) {
  const place = h("div", {}, loading());
  fill(root, title("Engines"), place);
  let timer = null;
  let isLeft = false;
  let before = "";

  async function look() {
    try {
      const found = await call("/v1/engines");
      const told = JSON.stringify(found);
      if (isLeft) return;
      if (told !== before) draw(place, found);
      before = told;
      timer = setTimeout(look, PAUSE_MILLISECONDS);
    } catch (error) {
      if (!isLeft) fill(place, errorNote(error));
    }
  }

  look();
  return () => {
    isLeft = true;
    clearTimeout(timer);
  };
}

function draw(place, { data, queue, notes }) {
  // What is open stays open, and what has the focus keeps it, while the figures change.
  const open = new Set(
    [...place.querySelectorAll("details[open]")].map((one) => one.dataset.engine),
  );
  const focused = document.activeElement?.closest?.("details")?.dataset.engine;
  fill(
    place,
    notes.map((note) => h("p", { class: "note" }, note)),
    data.length === 0 && h("p", { class: "fine" }, "There is no engine."),
    planPicture(data),
    h("h2", { class: "unseen" }, "One by one"),
    h(
      "div",
      { class: "tiles" },
      data.map((engine) => tile(engine, open)),
    ),
    queue.length > 0 && waiting(queue),
  );
  const again = [...place.querySelectorAll("details")].find(
    (one) => one.dataset.engine === focused,
  );
  again?.querySelector("summary").focus({ preventScroll: true });
}

/** For each device a bar, divided as the plan divides it, filled as far as it is used. */
function planPicture(data) {
  const planned = data.filter((engine) => engine.memory_bytes.planned);
  if (planned.length === 0) return null;
  const devices = Map.groupBy(planned, (engine) => engine.device || "this machine");
  const rows = [...devices].map(([device, engines]) => {
    const total = engines.reduce((sum, engine) => sum + engine.memory_bytes.planned, 0);
    return h(
      "div",
      { class: "device" },
      h("h3", {}, device, h("span", { class: "figure" }, `${bytes(total)} planned`)),
      h("ul", { class: "slots" }, engines.map(slot)),
    );
  });
  return h("section", { class: "plan" }, h("h2", {}, "Memory, as planned"), rows);
}

function slot(engine) {
  const { planned, actual } = engine.memory_bytes;
  const part = h(
    "li",
    { class: "slot" },
    h("span", { class: "model" }, engine.engine),
    h("span", { class: "fine" }, actual ? `${bytes(actual)} of ${bytes(planned)}` : bytes(planned)),
  );
  part.style.setProperty("--part", `${planned}`);
  part.style.setProperty("--share", cssShare(actual ? actual / planned : 0));
  return part;
}

function tile(engine, open) {
  const tone = GOOD.includes(engine.phase) ? "good" : BAD.includes(engine.phase) ? "bad" : "busy";
  const { planned, actual } = engine.memory_bytes;
  return h(
    "article",
    { class: "tile" },
    h("h3", {}, engine.engine, h("span", { class: `badge is-${tone}` }, engine.phase)),
    engine.detail && h("p", { class: "why" }, engine.detail),
    h(
      "dl",
      {},
      engine.roles.length > 0 && fact("Roles", engine.roles.join(", ")),
      engine.device && fact("Device", engine.device),
      fact("State", `${engine.phase} for ${seconds(engine.seconds)}`),
      planned !== null &&
        fact("Memory", `${bytes(planned)} planned`, actual ? `, ${bytes(actual)} taken` : ""),
      engine.kv_cache_usage !== null && fact("KV cache", percent(engine.kv_cache_usage)),
      engine.running !== null &&
        fact("Requests", `${count(engine.running)} running, ${count(engine.waiting)} waiting`),
      engine.tokens_per_second !== null &&
        fact("Speed", `${engine.tokens_per_second.toFixed(1)} tokens/s`),
      fact("Restarts", count(engine.restarts)),
      engine.unload_seconds !== null &&
        fact("Unloaded", `in ${seconds(engine.unload_seconds)} unless it is asked`),
    ),
    engine.log.length > 0 &&
      h(
        "details",
        { "data-engine": engine.engine, open: open.has(engine.engine) },
        h("summary", {}, "Last lines of its log"),
        h("pre", { tabindex: "0" }, engine.log.join("\n")),
      ),
  );
}

function waiting(queue) {
  return h(
    "section",
    {},
    h("h2", {}, "Runs that wait for engines"),
    h(
      "ol",
      { class: "rows" },
      queue.map((run) => h("li", { class: "line-of-facts" }, waitingFor(run))),
    ),
  );
}

function waitingFor(run) {
  return [
    h("span", {}, run.models.join(", ")),
    h("span", { class: "figure" }, seconds(run.seconds)),
  ];
}
