// The first page: filters on the left, images on the right.

import { Cards, SECTION } from "./cards.js";
import { showSelection } from "./chosen.js";
import { count, getJson, h, number, printable, toast } from "./dom.js";
import { parameters, readState, writeState } from "./filters.js";
import { Histogram } from "./histogram.js";

const $ = (id) => document.querySelector(`#${id}`);
const DEFAULT_HISTOGRAMS = ["n_objects", "area", "score"];
const SORT_NAMES = { path: "path", objects: "objects", lowest_score: "lowest score", largest_area: "largest area", run: "run", pixels: "size of the image", outcome: "outcome" };

let state = readState();
let store = null;
let answer = { total: 0, version: 0 };
let first = 0;
let asking = new AbortController();
const histograms = new Map();
const cards = new Cards($("scroll"), $("space"), { failed: (error) => problem(error.message) });

const question = () => ({ ...parameters(state), sort: state.sort, descending: state.descending ? "true" : null });

/** A change of the filter. */
function change(update, replace = false) {
  Object.assign(state, update);
  writeState(state, replace);
  first = 0;
  refresh();
}

async function refresh() {
  if (!store) return; // not known yet: `start` asks with the state as it is by then
  asking.abort();
  asking = new AbortController();
  const { signal } = asking;
  const asked = question();
  showFilters();
  document.body.setAttribute("aria-busy", "true");
  try {
    const found = await getJson("/api/images", { ...asked, offset: first, limit: 100 }, { signal });
    answer = found;
    problem("");
    $("scroll").scrollTop = 0;
    cards.reset(asked, found.total, first, found.rows);
    showTotal();
    for (const [column, one] of histograms) {
      const data = await getJson("/api/histogram", { ...parameters(state), column }, { signal });
      one.show(data, state.range.get(column) ?? ["", ""]);
    }
  } catch (error) {
    if (error.name !== "AbortError") {
      problem(error.message);
      answer = { ...answer, total: 0, objects: 0 };
      cards.reset(asked, 0, 0, []);
      $("total").textContent = "No answer";
      $("none").hidden = true;
    }
  } finally {
    if (!signal.aborted) document.body.removeAttribute("aria-busy");
  }
}

/** An error is said above the images, and beside the condition if there is one. */
function problem(text) {
  const beside = Boolean(text && state.where);
  $("problem").textContent = text;
  $("problem").hidden = !text;
  $("where-problem").textContent = beside ? text : "";
  $("where-problem").hidden = !beside;
  $("where").setAttribute("aria-invalid", String(beside));
}

function showTotal() {
  const objects = answer.about === "objects" ? "matching object" : "object";
  $("total").textContent = `${count(answer.total, "image")}, ${count(answer.objects, objects)}`;
  $("none").hidden = answer.total > 0;
  $("sections").hidden = answer.total <= SECTION;
  $("section").textContent = `${number(first + 1)} to ${number(Math.min(answer.total, first + SECTION))}`;
  $("earlier").disabled = first === 0;
  $("later").disabled = first + SECTION >= answer.total;
}

function chips(box, values, chosen, change) {
  const rest = chosen.filter((name) => !values.some((value) => value.name === name));
  box.replaceChildren(...[...values, ...rest.map((name) => ({ name, n: 0 }))].map(({ name, n }) => {
    const on = chosen.includes(name);
    const toggle = () => change(on ? chosen.filter((one) => one !== name) : [...chosen, name]);
    return h("button", { type: "button", class: "chip", "aria-pressed": String(on), "data-value": name, onclick: toggle }, printable(name), h("span", { class: "soft" }, ` ${number(n)}`));
  }));
}

function showFilters() {
  const options = (select, pairs, value) => {
    if (value && !pairs.some(([one]) => one === value)) pairs.push([value, value]);
    select.replaceChildren(...pairs.map(([one, text]) => h("option", { value: one, selected: one === value }, text)));
  };
  const runs = store.runs.map((one) => [one.run, `${when(one.run)} · ${printable(one.model)} · ${number(one.images)}`]);
  options($("run"), [["", "newest result of each image"], ...runs], state.run);
  options($("model"), [["", "all"], ...store.models.map((one) => [one, printable(one)])], state.model);
  options($("sort"), store.sorts.map((one) => [one, SORT_NAMES[one] ?? one]), state.sort);
  options($("add-histogram"), [["", "choose a column…"], ...store.columns.filter((one) => !histograms.has(one.name)).map((one) => [one.name, `${one.name} (${one.level})`])], "");
  $("descending").setAttribute("aria-pressed", String(state.descending));
  if (document.activeElement !== $("name")) $("name").value = state.name;
  if (document.activeElement !== $("where")) $("where").value = state.where;
  chips($("outcomes"), store.outcomes.map((one) => ({ name: one.name, n: one.images })), state.outcome, (outcome) => change({ outcome }));
  chips($("classes"), store.classes.map((one) => ({ name: one.name, n: one.objects })), state.cls, (cls) => change({ cls }));
  const active = state.range.size + state.outcome.length + state.cls.length + ["run", "model", "name", "where"].filter((key) => state[key]).length;
  $("open-filters").textContent = active ? `Filters (${active})` : "Filters";
  $("reset").hidden = active === 0;
  showHistograms();
  $("filter-sql").hidden = true;
}

function showHistograms() {
  const wanted = new Set([...(state.histograms.length ? state.histograms : DEFAULT_HISTOGRAMS), ...state.range.keys()]);
  for (const [name, one] of histograms) {
    if (wanted.has(name)) continue;
    one.element.remove();
    histograms.delete(name);
  }
  for (const name of wanted) {
    const column = store.columns.find((one) => one.name === name);
    if (!column || histograms.has(name)) continue;
    const one = new Histogram(column, {
      changed: (low, high) => {
        const range = new Map(state.range);
        if (low === "" && high === "") range.delete(name);
        else range.set(name, [low, high]);
        change({ range });
      },
      removed: () => {
        const range = new Map(state.range);
        range.delete(name);
        change({ range, histograms: [...histograms.keys()].filter((other) => other !== name) });
      },
    });
    histograms.set(name, one);
    $("histograms").append(one.element);
  }
}

/** The time in a run's id, for people; the id where there is none. */
function when(run) {
  const parts = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)/.exec(run);
  return parts ? `${parts[1]}-${parts[2]}-${parts[3]} ${parts[4]}:${parts[5]}` : printable(run);
}

/** Results that were committed since. */
async function look() {
  if (document.hidden) return;
  try {
    const { version, trouble } = await getJson("/api/version");
    const news = trouble || (version !== answer.version && answer.version ? "There are new results." : "");
    $("news").hidden = !news;
    $("news").querySelector("span").textContent = news;
  } catch {
    $("news").hidden = false;
    $("news").querySelector("span").textContent = "The viewer does not answer: was it ended?";
  }
}

function listen() {
  for (const key of ["run", "model", "sort"]) $(key).addEventListener("change", () => change({ [key]: $(key).value }));
  let typing = 0;
  $("name").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => change({ name: $("name").value }, true), 200);
  });
  $("descending").addEventListener("click", () => change({ descending: !state.descending }));
  $("sql").addEventListener("submit", (event) => {
    event.preventDefault();
    change({ where: $("where").value.trim() });
  });
  $("where").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("sql").requestSubmit();
  });
  $("reset").addEventListener("click", () => {
    $("where").value = $("name").value = "";
    change({ run: "", model: "", name: "", where: "", outcome: [], cls: [], range: new Map() });
  });
  $("add-histogram").addEventListener("change", () => change({ histograms: [...histograms.keys(), $("add-histogram").value] }));
  $("overlays").addEventListener("click", () => {
    cards.overlays = !cards.overlays;
    $("overlays").setAttribute("aria-pressed", String(cards.overlays));
    for (const card of cards.cards.values()) cards.drop(card);
    cards.cards.clear();
    cards.draw();
  });
  $("news").querySelector("button").addEventListener("click", start);
  const section = (by) => {
    first = Math.max(0, first + by);
    refresh();
  };
  $("earlier").addEventListener("click", () => section(-SECTION));
  $("later").addEventListener("click", () => section(SECTION));
  for (const button of document.querySelectorAll("[data-sql]"))
    button.addEventListener("click", async () => {
      try {
        const text = (await getJson("/api/sql", parameters(state)))[button.dataset.sql];
        $("filter-sql").value = text;
        $("filter-sql").hidden = false;
        $("filter-sql").select();
      } catch (error) {
        toast(error.message);
      }
    });
  const drawer = (open) => {
    $("filters").classList.toggle("open", open);
    (open ? $("close-filters") : $("open-filters")).focus();
  };
  $("open-filters").addEventListener("click", () => drawer(true));
  $("close-filters").addEventListener("click", () => drawer(false));
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && $("filters").classList.contains("open")) drawer(false);
    if (event.key === "/" && !event.target.matches("input, textarea, select")) {
      $("name").focus();
      event.preventDefault();
    }
  });
  addEventListener("popstate", () => {
    state = readState();
    first = 0;
    refresh();
  });
  setInterval(look, 5000);
  addEventListener("focus", look);
}

async function start() {
  try {
    store = await getJson("/api/store");
    $("news").hidden = true;
    await refresh();
  } catch (error) {
    problem(error.message);
  }
}

listen();
showSelection(() => ({ question: question(), total: answer.total }));
await start();
