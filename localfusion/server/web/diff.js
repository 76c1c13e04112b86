// What two texts have in common, word by word. No elements here.
//
// Source: E. W. Myers, "An O(ND) Difference Algorithm and Its Variations", Algorithmica 1 (1986).

const WORD = /\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu;
const MOST_WORDS = 20000;
const MOST_EDITS = 1500;

/**
 * Compare two texts.
 * @returns {{parts: {kind: "same"|"gone"|"new", text: string}[], share: number, isWhole: boolean}}
 * The parts in order; the share of the characters that stand in both, 0 to 1; `isWhole` is false
 * where a text was too long, or too different, to be compared to its end.
 */
export function diff(before, after) {
  const all = [before, after].map((text) => text.match(WORD) ?? []);
  const [a, b] = all.map((words) => words.slice(0, MOST_WORDS));
  const head = common(a, b, (words, place) => words[place]);
  const restA = a.slice(head);
  const restB = b.slice(head);
  const tail = common(restA, restB, (words, place) => words[words.length - 1 - place]);
  const middle = edits(restA.slice(0, restA.length - tail), restB.slice(0, restB.length - tail));
  const parts = [
    ["same", a.slice(0, head)],
    ...middle.steps,
    ["same", restA.slice(restA.length - tail)],
  ];
  const isCut = all.some((words) => words.length > MOST_WORDS);
  const whole = joined(parts);
  return { parts: readable(whole), share: likeness(whole), isWhole: !isCut && middle.isWhole };
}

/** Return how many words are the same from the start on, as `pick` reads them. */
function common(a, b, pick) {
  const most = Math.min(a.length, b.length);
  let place = 0;
  while (place < most && pick(a, place) === pick(b, place)) place += 1;
  return place;
}

/**
 * Return the shortest way from one list of words to the other, a word a step. On diagonal k, where
 * x - y = k, `furthest[middle + k]` is the largest x that d edits reach.
 */
function edits(a, b) {
  const most = Math.min(a.length + b.length, MOST_EDITS);
  const middle = most + 1;
  const furthest = new Int32Array(2 * most + 3);
  const kept = [];
  for (let d = 0; d <= most; d += 1) {
    kept.push(furthest.slice(middle - d - 1, middle + d + 2));
    for (let k = -d; k <= d; k += 2) {
      const at = middle + k;
      let x = isDown(furthest, at, k, d) ? furthest[at + 1] : furthest[at - 1] + 1;
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x += 1;
      furthest[at] = x;
      if (x >= a.length && x - k >= b.length) return { steps: walk(a, b, kept), isWhole: true };
    }
  }
  return {
    steps: [
      ["gone", a],
      ["new", b],
    ],
    isWhole: false,
  };
}

/** Whether diagonal k is reached by a word of the second text, not by leaving one of the first. */
function isDown(furthest, at, k, d) {
  return k === -d || (k !== d && furthest[at - 1] < furthest[at + 1]);
}

/** Go the way back, from both ends to both beginnings. */
function walk(a, b, kept) {
  const steps = [];
  let x = a.length;
  let y = b.length;
  for (let d = kept.length - 1; d >= 0; d -= 1) {
    const k = x - y;
    const from = isDown(kept[d], d + 1 + k, k, d) ? k + 1 : k - 1;
    const fromX = kept[d][d + 1 + from];
    const fromY = fromX - from;
    while (x > Math.max(fromX, 0) && y > Math.max(fromY, 0)) {
      x -= 1;
      y -= 1;
      steps.push(["same", [a[x]]]);
    }
    if (d === 0) break;
    steps.push(x === fromX ? ["new", [b[fromY]]] : ["gone", [a[fromX]]]);
    x = fromX;
    y = fromY;
  }
  return steps.reverse();
}

/** Join neighbors of one kind. */
function joined(steps) {
  const parts = [];
  for (const [kind, words] of steps) {
    if (words.length === 0) continue;
    const last = parts.at(-1);
    if (last?.kind === kind) last.text += words.join("");
    else parts.push({ kind, text: words.join("") });
  }
  return parts;
}

/**
 * Take what is the same by chance for changed: a word between two longer changes tells nothing, and
 * tears both apart.
 */
function readable(parts) {
  const found = [];
  let gone = "";
  let fresh = "";
  const flush = () => {
    if (gone) found.push({ kind: "gone", text: gone });
    if (fresh) found.push({ kind: "new", text: fresh });
    gone = fresh = "";
  };
  for (const [place, { kind, text }] of parts.entries()) {
    if (kind === "gone") gone += text;
    else if (kind === "new") fresh += text;
    else if (
      text.length <= Math.min(Math.max(gone.length, fresh.length), lengthBehind(parts, place))
    ) {
      gone += text;
      fresh += text;
    } else {
      flush();
      found.push({ kind, text });
    }
  }
  flush();
  return found;
}

/** Return the length of the change that begins behind a part. */
function lengthBehind(parts, place) {
  const behind = parts.slice(place + 1, place + 3).filter((part) => part.kind !== "same");
  return Math.max(0, ...behind.map((part) => part.text.length));
}

/** Return the share of the characters of two compared texts that stand in both, 0 to 1. */
function likeness(parts) {
  let same = 0;
  let all = 0;
  for (const { kind, text } of parts) {
    same += kind === "same" ? 2 * text.length : 0;
    all += kind === "same" ? 2 * text.length : text.length;
  }
  return all ? same / all : 1;
}
