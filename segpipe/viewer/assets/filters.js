// The filters: what stands in the address of the page is what is shown.

const SINGLE = ["run", "model", "name", "where"];

/** What the address says; `range` as a Map of column -> [low, high], texts or "". */
export function readState() {
  const query = new URLSearchParams(location.search);
  const state = {
    sort: query.get("sort") ?? "path",
    descending: query.get("descending") === "true",
    histograms: query.getAll("histogram"),
    range: new Map(),
  };
  for (const key of SINGLE) state[key] = query.get(key) ?? "";
  for (const key of ["outcome", "cls"]) state[key] = query.getAll(key);
  for (const text of query.getAll("range")) {
    const [column, low = "", high = ""] = text.split(":");
    state.range.set(column, [low, high]);
  }
  return state;
}

/** The filter as parameters of a question. */
export function parameters(state) {
  const ranges = [...state.range].filter(([, [low, high]]) => low !== "" || high !== "");
  return {
    run: state.run,
    model: state.model,
    name: state.name,
    where: state.where,
    outcome: state.outcome,
    cls: state.cls,
    range: ranges.map(([column, [low, high]]) => `${column}:${low}:${high}`),
  };
}

/** Put the state into the address, so that it can be gone back to and kept as a bookmark. */
export function writeState(state, replace = false) {
  const query = new URLSearchParams();
  const all = {
    ...parameters(state),
    sort: state.sort === "path" ? "" : state.sort,
    descending: state.descending ? "true" : "",
    histogram: state.histograms,
  };
  for (const [key, value] of Object.entries(all))
    for (const one of Array.isArray(value) ? value : [value]) if (one !== "") query.append(key, one);
  const text = query.toString();
  history[replace ? "replaceState" : "pushState"](null, "", text ? `/?${text}` : "/");
}

