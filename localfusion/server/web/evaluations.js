// Reports of `localfusion eval run` on this machine: what was asked, and whether the panel pays.

import { call } from "./api.js";
import { fill, h } from "./dom.js";
import { moment } from "./format.js";
import { errorNote, loading, title } from "./notes.js";

export function evaluationsView(root, _, name) {
  const place = h("div", {}, loading());
  fill(root, title(name ? decodeURIComponent(name) : "Evaluations"), place);
  load(place, name);
}

async function load(place, name) {
  try {
    if (name) fill(place, report(await call(`/v1/evaluations/${name}`)));
    else fill(place, list((await call("/v1/evaluations")).data));
  } catch (error) {
    fill(place, errorNote(error));
  }
}

function list(found) {
  if (!found.length) {
    return h("p", { class: "note" }, "No evaluation yet. Begin with: localfusion eval run small");
  }
  return h("ul", { class: "rows" }, found.map(row));
}

function row(one) {
  const link = h("a", { href: `#/evaluations/${encodeURIComponent(one.name)}` }, one.name);
  return h(
    "li",
    {},
    h("p", {}, one.is_finished ? link : one.name),
    h("p", {}, one.verdict),
    h("small", {}, `${one.samples} samples of ${one.suite}, preset ${one.preset}, ${moment(one.created)}`),
  );
}

function report(told) {
  return [
    h("p", {}, h("strong", {}, told.verdict.sentence)),
    told.power && h("p", {}, told.power.sentence),
    h("h2", {}, "Arms"),
    table(
      ["arm", "score, %", "95 % CI", "samples", "engine-seconds", "median s"],
      told.arms.map((arm) => [
        arm.name,
        percent(arm.score),
        span(arm.interval),
        arm.n,
        figure(arm.live?.engine_seconds),
        figure(arm.live?.p50),
      ]),
    ),
    h("h2", {}, "Comparisons"),
    table(
      ["comparison", "points", "95 % CI", "fixed", "broken", "p", "verdict"],
      told.comparisons.map((one) => [
        `${one.first} − ${one.second}`,
        percent(one.difference),
        span(one.interval),
        one.fixed,
        one.broken,
        one.p.toFixed(3),
        one.verdict,
      ]),
    ),
    h("h2", {}, "Examples"),
    (told.flips?.examples ?? []).map(example),
  ];
}

function example(one) {
  return h(
    "details",
    {},
    h("summary", {}, `${one.kind}: ${one.sample}`),
    h("pre", {}, one.question),
    h("p", {}, `expected: ${one.gold ?? "–"}`),
    one.members.map((member) => [h("p", {}, member.member), h("pre", {}, member.text)]),
    h("p", {}, "answer"),
    h("pre", {}, one.answer),
    one.trace && h("a", { href: `#/trace/${encodeURIComponent(one.trace)}` }, "Open its trace"),
  );
}

function table(head, rows) {
  const cells = (row) => row.map((cell) => h("td", {}, cell ?? "–"));
  return h(
    "div",
    { class: "wide", tabindex: "0", role: "region", "aria-label": head[0] },
    h(
      "table",
      {},
      h("thead", {}, h("tr", {}, head.map((cell) => h("th", { scope: "col" }, cell)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, cells(row)))),
    ),
  );
}

const percent = (share) => (typeof share === "number" ? (share * 100).toFixed(1) : "–");
const figure = (value) => (typeof value === "number" ? value.toPrecision(3) : "–");
const span = ([low, high]) => `${percent(low)}…${percent(high)}`;
