// What is known of a run from its events, live or recorded. No elements here.

const PREFIX = "response.fusion_call.";

/** One panel answer on its way. */
class Member {
  constructor(event) {
    this.index = event.index;
    this.model = event.model;
    this.sampling = event.sampling ?? {};
    this.from = event.at;
    this.firstWord = null;
    this.to = null;
    this.text = "";
    this.reasoning = "";
    this.candidate = null;
    this.checks = [];
  }

  /** `asked`, `thinking`, `writing`, then `done`, `cut` (not needed any more) or `lost`. */
  get state() {
    if (this.candidate === null) {
      if (this.text) return "writing";
      return this.reasoning ? "thinking" : "asked";
    }
    if (this.candidate.failure_reason === null) return "done";
    return this.candidate.failure_reason === "not_needed" ? "cut" : "lost";
  }

  /** People count from one; the API's index counts from zero. */
  get number() {
    return this.index + 1;
  }

  complete(candidate, at) {
    this.candidate = candidate;
    this.checks = [...(candidate.checks ?? [])];
    this.text = candidate.text;
    this.reasoning = candidate.reasoning;
    this.to = at;
  }
}

/**
 * A run: a fold over its events. Times are seconds since it began.
 *
 * `phase` is what goes on: `waiting`, `panel`, `verdict`, `analysis`, `reading`, `writing`, then
 * `completed`, `failed` or `stopped`.
 */
export class Run {
  constructor() {
    this.id = null;
    this.phase = "waiting";
    this.preset = "";
    this.policy = "";
    this.judge = null;
    this.routing = null;
    this.asked = [];
    this.byIndex = new Map();
    this.prefills = [];
    this.verdict = null;
    this.analysis = null;
    this.syntheses = [];
    this.settled = null;
    this.firstWord = null;
    this.text = "";
    this.reasoning = "";
    this.calls = [];
    this.answer = null;
    this.error = null;
    this.ended = null;
    this.at = 0;
  }

  get members() {
    return [...this.byIndex.values()].sort((a, b) => a.index - b.index);
  }

  get isOver() {
    return ["completed", "failed", "stopped"].includes(this.phase);
  }

  get lost() {
    return this.members.filter((member) => member.state === "lost");
  }

  /** The member whose text was given as the answer, word for word, if there is one. */
  get chosen() {
    if (this.text === "" || this.answer === null) return null;
    return this.members.find((member) => member.text === this.text) ?? null;
  }

  /** Members that wrote under a model's name. */
  by(model) {
    return this.members.filter((member) => member.model === model);
  }

  /** @param {object} event As the API sends it; unknown ones change nothing. */
  see(event) {
    this.at = event.at ?? this.at;
    const name = `${event.type}`.replace(PREFIX, "");
    if (Object.hasOwn(SEERS, name)) SEERS[name](this, event);
  }

  /** Take the whole answer, from its last event or from a trace. */
  finish(answer) {
    this.answer = answer;
    this.text = answer.text;
    this.reasoning = answer.reasoning;
    this.calls = answer.tool_calls ?? [];
    this.policy = answer.policy;
    this.phase = "completed";
    this.at = Math.max(this.at, answer.seconds);
    if (answer.analysis)
      this.analysis = { from: null, to: null, ...this.analysis, value: answer.analysis };
    for (const candidate of answer.candidates) this.candidate(candidate, this.at);
  }

  candidate(candidate, at) {
    let member = this.byIndex.get(candidate.index);
    if (!member) {
      member = new Member({ ...candidate, at: Math.max(0, at - candidate.seconds) });
      this.byIndex.set(candidate.index, member);
    }
    member.complete(candidate, member.to ?? at);
  }

  fail(error) {
    this.error = error;
    this.phase = "failed";
  }

  /** @param {"stopped"|"interrupted"} how By us, or by others. */
  stop(how) {
    this.phase = "stopped";
    this.ended = how;
  }
}

const SEERS = {
  in_progress(run, event) {
    run.id = event.run_id;
    run.preset = event.preset;
    run.policy = event.policy;
    run.judge = event.judge;
    run.asked = event.members;
    run.phase = event.judge ? "panel" : "reading";
  },
  "policy.chosen"(run, event) {
    run.routing = event;
    run.policy = event.policy;
  },
  "panel.added"(run, event) {
    run.phase = "panel";
    run.byIndex.set(event.index, new Member(event));
  },
  "panel.delta"(run, event) {
    const member = run.byIndex.get(event.index);
    if (!member) return;
    member.firstWord ??= event.at;
    member.text += event.text;
    member.reasoning += event.reasoning;
  },
  "panel.completed"(run, event) {
    run.candidate(event.candidate, event.at);
  },
  "prefill.completed"(run, event) {
    run.prefills.push(event);
  },
  "check.completed"(run, event) {
    run.byIndex.get(event.index)?.checks.push(event.check);
  },
  "verdict.completed"(run, event) {
    run.verdict = event;
  },
  "analysis.in_progress"(run, event) {
    run.phase = "analysis";
    run.analysis = { judge: event.judge, from: event.at, to: null, value: null, error: null };
  },
  "analysis.completed"(run, event) {
    run.analysis = { ...run.analysis, to: event.at, value: event.analysis, error: event.error };
  },
  "synthesis.in_progress"(run, event) {
    run.phase = "reading";
    run.syntheses.push(event);
  },
  "answer.started"(run, event) {
    run.settled = event;
    run.phase = "writing";
  },
  "answer.delta"(run, event) {
    run.firstWord ??= event.at;
    run.text += event.text;
    run.reasoning += event.reasoning;
  },
  completed(run, event) {
    run.finish(event.answer);
  },
  failed(run, event) {
    run.fail(event.error);
  },
};

/** Return the share of the judge's prompts that came from its cache; null where it read nothing. */
export function cachedShare(answer) {
  const judged = ["verdict", "analysis", "synthesis"].map((stage) => answer.stages[stage]?.usage);
  const read = judged.filter(Boolean);
  const prompt = read.reduce((sum, usage) => sum + usage.prompt_tokens, 0);
  const cached = read.reduce((sum, usage) => sum + usage.cached_tokens, 0);
  return prompt ? cached / prompt : null;
}

/** Return the sum of the tokens of every stage of an answer. */
export function totals(answer) {
  const stages = Object.values(answer.stages);
  const sum = (name) => stages.reduce((total, stage) => total + stage.usage[name], 0);
  return {
    prompt: sum("prompt_tokens"),
    cached: sum("cached_tokens"),
    completion: sum("completion_tokens"),
  };
}
