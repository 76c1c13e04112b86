// What a run waited for: a bar for each member and the judge, and the critical path as a list.

import { fill, h } from "./dom.js";
import { count, cssShare, percent, seconds } from "./format.js";
import { cachedShare } from "./run.js";

const STEPS = {
  queue: "a place in line",
  panel: "the panel, until enough had answered",
  grace: "stragglers",
  check: "checks of the answers",
  verdict: "the judge's choice",
  analysis: "the judge's comparison",
  judge_prefill: "the writer's first word",
  synthesis: "the rest of the answer",
  overhead: "everything else",
};
const JUDGE_STEPS = ["check", "verdict", "analysis", "judge_prefill", "synthesis"];
const TICKS = 6;
const MOST_SHARE = 0.8; // of the axis; behind it a narrow screen has no room for a label
// Of the whole: a step below it cannot be seen, and changes no figure beside it.
const SMALLEST = 0.001;

/** The picture of a run, whole or on its way. */
export class Timeline {
  constructor() {
    this.chart = h("div", { class: "chart" });
    this.steps = h("div", {});
    this.element = h(
      "section",
      { class: "timeline", hidden: true },
      h("h2", {}, "Timeline"),
      this.chart,
      this.steps,
    );
    this.isWhole = false;
  }

  /**
   * @param {import("./run.js").Run} run
   * @param {number} now Seconds since the run began.
   */
  update(run, now) {
    const rows = rowsOf(run, now);
    this.element.hidden = rows.length === 0;
    if (rows.length === 0 || this.isWhole) return;
    const end = Math.max(run.answer?.seconds ?? now, 1e-3);
    fill(
      this.chart,
      rows.map((row) => draw(row, end)),
      axis(end),
      legend(rows),
    );
    if (!run.answer) return;
    fill(this.steps, path(run));
    this.isWhole = true;
  }
}

/**
 * Return the rows of the picture. A bar's kind is `read` (before the first word), `work`, `ahead`
 * (the judge reads drafts meanwhile) or `path`: what the client waited for.
 */
function rowsOf(run, now) {
  const waits = spans(run.answer?.critical_path ?? []);
  const rows = run.members.map((member) => memberRow(member, waits, run.isOver ? run.at : now));
  const judge = judgeRow(run, waits, now);
  if (judge.bars.length > 0) rows.push(judge);
  const queue = waits.filter((wait) => wait.stage === "queue" && wait.to > wait.from);
  if (queue.length > 0) {
    rows.unshift({ label: "In line", bars: queue.map((wait) => ({ ...wait, kind: "path" })) });
  }
  return rows;
}

/** Lay the steps of the critical path one behind the other. */
function spans(steps) {
  let at = 0;
  return steps.map((step) => {
    const from = at;
    at += step.seconds;
    return { ...step, from, to: at };
  });
}

function memberRow(member, waits, now) {
  const to = member.to ?? now;
  const first = member.candidate?.first_token_seconds ?? null;
  const begun = first === null ? member.firstWord : member.from + first;
  const bars = [{ from: member.from, to: begun ?? to, kind: "read" }];
  if (begun !== null) bars.push({ from: begun, to, kind: "work" });
  for (const wait of waits) {
    const isIts = wait.index === member.index && ["panel", "grace"].includes(wait.stage);
    if (isIts) bars.push({ from: Math.max(wait.from, member.from), to: wait.to, kind: "path" });
  }
  const label = `${member.number} ${member.model}`;
  return { label, bars, value: seconds(to - member.from), isLost: member.state === "lost" };
}

function judgeRow(run, waits, now) {
  const ahead = run.prefills
    .filter((one) => one.skipped === null)
    .map((one) => ({ from: one.at - one.seconds, to: one.at, kind: "ahead" }));
  const label = run.judge ? `Judge ${run.judge}` : (run.answer?.model ?? "Model");
  if (waits.length > 0) {
    const own = waits.filter((wait) => JUDGE_STEPS.includes(wait.stage) && wait.to > wait.from);
    const bars = own.map((wait) => ({
      ...wait,
      kind: wait.stage === "synthesis" ? "path" : "path is-reading",
    }));
    const took = own.reduce((sum, wait) => sum + wait.seconds, 0);
    return { label, bars: [...ahead, ...bars], value: seconds(took), isJudge: run.judge !== null };
  }
  const bars = liveBars(run, now);
  const from = bars[0]?.from ?? now;
  return {
    label,
    bars: [...ahead, ...bars],
    value: bars.length ? seconds((bars.at(-1)?.to ?? now) - from) : "",
    isJudge: run.judge !== null,
  };
}

function liveBars(run, now) {
  const end = run.isOver ? run.at : now;
  const bars = [];
  if (run.analysis && run.analysis.from !== null) {
    bars.push({ from: run.analysis.from, to: run.analysis.to ?? end, kind: "path is-reading" });
  }
  const begun = run.syntheses.at(-1)?.at ?? null;
  if (begun !== null) bars.push({ from: begun, to: run.firstWord ?? end, kind: "path is-reading" });
  if (run.firstWord !== null) bars.push({ from: run.firstWord, to: end, kind: "path" });
  return bars;
}

function draw(row, end) {
  const bars = row.bars.map((bar) => {
    const drawn = h("span", { class: `bar is-${bar.kind}` });
    drawn.style.setProperty("--from", cssShare(bar.from / end));
    drawn.style.setProperty("--width", cssShare((bar.to - bar.from) / end));
    return drawn;
  });
  return h(
    "div",
    { class: `row${row.isLost ? " is-lost" : ""}${row.isJudge ? " is-judge" : ""}` },
    h("span", { class: "label", title: row.label }, row.label),
    h("span", { class: "track", "aria-hidden": "true" }, bars),
    h("span", { class: "figure" }, row.value ?? ""),
  );
}

/** Return the distance of the axis' ticks: 1, 2 or 5 times a power of ten. */
function tickStep(end) {
  const rough = end / TICKS;
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough);
}

function axis(end) {
  const step = tickStep(end);
  const track = h("span", { class: "track is-axis" });
  for (let place = 0; place * step <= end * MOST_SHARE; place += 1) {
    const tick = h("span", { class: "tick" }, `${Number((place * step).toPrecision(3))} s`);
    tick.style.setProperty("--from", cssShare((place * step) / end));
    track.append(tick);
  }
  return h(
    "div",
    { class: "row is-axis", "aria-hidden": "true" },
    h("span", { class: "label" }),
    track,
    h("span", { class: "figure" }),
  );
}

function legend(rows) {
  const kinds = new Set(rows.flatMap((row) => row.bars.map((bar) => bar.kind)));
  const entries = [
    ["path", "waited for"],
    ["path is-reading", "waited for, before the answer's first word"],
    ["work", "writes"],
    ["read", "reads, before its first word"],
    ["ahead", "judge reads ahead"],
  ].filter(([kind]) => kinds.has(kind));
  return h(
    "ul",
    { class: "legend" },
    entries.map(([kind, name]) => h("li", {}, h("span", { class: `key is-${kind}` }), name)),
  );
}

function path(run) {
  const { answer } = run;
  const steps = answer.critical_path.filter((step) => step.seconds > answer.seconds * SMALLEST);
  const items = steps.map((step) => {
    const share = answer.seconds ? step.seconds / answer.seconds : 0;
    const member =
      step.index === null || step.index === undefined ? null : run.byIndex.get(step.index);
    const bar = h("span", { class: "share" });
    bar.style.setProperty("--share", cssShare(share));
    const name = STEPS[step.stage] ?? step.stage;
    return h(
      "li",
      {},
      h(
        "span",
        {},
        name,
        member && h("span", { class: "fine" }, ` ${member.number} ${member.model}`),
      ),
      bar,
      h("span", { class: "figure" }, seconds(step.seconds)),
    );
  });
  return [
    h("h3", {}, "Waited for"),
    h("ul", { class: "shares" }, items),
    h("p", { class: "facts" }, facts(run).join(" · ")),
  ];
}

function facts({ answer, prefills }) {
  const cached = cachedShare(answer);
  const read = prefills.filter((one) => one.skipped === null);
  const { joules, money, currency } = answer.cost ?? {};
  return [
    cached !== null && `${percent(cached)} of the judge's prompts came from its cache`,
    read.length > 0 &&
      `it read ahead ${read.length === 1 ? "once" : `${count(read.length)} times`}`,
    answer.exit && `ended early: ${answer.exit}`,
    joules !== null && joules !== undefined && `${count(Math.round(joules))} J`,
    money !== null && money !== undefined && `${money.toPrecision(3)} ${currency ?? ""}`,
  ].filter(Boolean);
}
