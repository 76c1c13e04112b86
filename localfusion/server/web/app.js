// The page: which view is shown, and the key.

import { onKey } from "./api.js";
import { askView } from "./ask.js";
import { fill, h, set } from "./dom.js";
import { enginesView } from "./engines.js";
import { evaluationsView } from "./evaluations.js";
import { keyForm } from "./notes.js";
import { presetsView } from "./presets.js";
import { traceView } from "./trace.js";
import { tracesView } from "./traces.js";

// A view is built with the rest of its address and its parameters, and may return how it ends.
const VIEWS = {
  traces: tracesView,
  trace: traceView,
  engines: enginesView,
  evaluations: evaluationsView,
  presets: presetsView,
};
const TITLES = {
  ask: "Ask",
  traces: "Traces",
  trace: "Trace",
  engines: "Engines",
  evaluations: "Evaluations",
  presets: "Presets",
};

const main = document.getElementById("main");
const ask = askView();
let end = () => {};
let isFirst = true;

function show() {
  end();
  end = () => {};
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [wanted, ...rest] = path.split("/");
  const name = Object.hasOwn(TITLES, wanted) ? wanted : "ask";
  const parameters = new URLSearchParams(query);
  document.title = `${TITLES[name]} · localfusion`;
  for (const link of document.querySelectorAll("nav a")) {
    const isCurrent = link.getAttribute("href") === `#/${name === "trace" ? "traces" : name}`;
    set(link, "aria-current", isCurrent ? "page" : null);
  }
  if (name === "ask") {
    fill(main, ask.element);
    ask.load(parameters);
  } else {
    const root = h("div", { class: "view" });
    fill(main, root);
    end = VIEWS[name](root, parameters, rest.join("/")) ?? end;
  }
  scrollTo(0, 0);
  // At first the focus stays where browsers put it; then it follows the view that was chosen.
  if (!isFirst) main.querySelector("h1")?.focus();
  isFirst = false;
}

function askForKey() {
  const close = () => dialog.close();
  const dialog = h(
    "dialog",
    { "aria-label": "API key", onclose: () => dialog.remove() },
    keyForm(close),
    h("button", { type: "button", class: "quiet", onclick: close }, "Close"),
  );
  document.body.append(dialog);
  dialog.showModal();
}

document.getElementById("key-button").addEventListener("click", askForKey);
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address is the view's
  main.focus();
});
addEventListener("hashchange", show);
onKey(() => {
  if (!main.contains(ask.element)) show();
});
show();
