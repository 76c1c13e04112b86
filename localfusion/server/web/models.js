// What can be asked: presets and models, as GET /v1/models tells them.

import { call, onKey } from "./api.js";

const PREFIX = "localfusion/";
const DEFAULT_SLUG = "openrouter/fusion";

let loaded = null;
onKey(() => {
  loaded = null;
});

/**
 * Return what the server answers for.
 * @returns {Promise<{presets: object[], models: object[], first: string|null}>}
 */
export async function catalog({ isFresh = false } = {}) {
  if (isFresh || loaded === null) loaded = arrange((await call("/v1/models")).data);
  return loaded;
}

function arrange(entries) {
  const presets = entries.filter((entry) => entry.id === PREFIX + entry.preset);
  const models = entries.filter((entry) => entry.kind === "model");
  const first = entries.find((entry) => entry.id === DEFAULT_SLUG)?.preset ?? null;
  return { presets, models, first: first && PREFIX + first };
}
