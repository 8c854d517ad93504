import { address, count, getJson, h, number, printable, s } from "./dom.js";
import { TiledView } from "./tiled.js";

const MOST_ROWS = 1000;
const find = (id) => document.querySelector(`#${id}`);
const imageId = decodeURIComponent(location.pathname.split("/").at(-1));
const asked = new URLSearchParams(location.search);
const base = `/api/image/${encodeURIComponent(imageId)}`;

let about;
let view;
let chosen = null;
let hovered = null;
let sorting = { key: "label", down: false };

const css = (colour) => `rgb(${colour.join(" ")})`;
const swatch = (colour) =>
  s("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" },
    s("rect", { width: 10, height: 10, rx: 2, fill: css(colour) }));

async function start() {
  about = await getJson(base, { run: asked.get("run") });
  document.title = `${printable(about.path)} - segpipe`;
  find("title").textContent = printable(about.path);
  if (about.status !== "ok") {
    find("facts").textContent = `failed: ${about.reason}: ${about.detail}`;
    problem(`This image has no result: ${about.detail}`);
    return;
  }
  const size = `${number(about.width)} × ${number(about.height)} px, ${about.dtype}`;
  find("facts").textContent =
    `${size}; ${count(about.n_objects, "object")}${about.saturated ? " (at the limit)" : ""}`;
  runs();
  legend();
  table();
  view = new TiledView(find("canvas"), {
    height: about.height, width: about.width, tile: about.tile, levels: about.levels,
    layers, decorate,
    url: (kind, level, row, column) =>
      address(`${base}/tile/${kind}/${level}/${row}/${column}`, { run: about.run_id }),
  });
  view.addEventListener("pick", ({ detail }) => pick(detail));
  view.addEventListener("drawn", () => {
    find("scale").textContent = `${number(Math.round((view.scale / view.ratio) * 100))} %`;
  });
  find("in").addEventListener("click", () => view.zoom(1.5));
  find("out").addEventListener("click", () => view.zoom(1 / 1.5));
  find("fit").addEventListener("click", () => view.fit());
  for (const id of ["masks", "outlines", "boxes", "names", "classes", "opacity"])
    find(id).addEventListener("input", () => view.draw());
  checkPixels();
  const label = Number(asked.get("object"));
  if (label) choose(label, true);
}

/** Whether the image itself can still be read; its masks are shown without it too. */
async function checkPixels() {
  const url = address(`${base}/tile/pixels/${about.levels - 1}/0/0`, { run: about.run_id });
  const slow = setTimeout(() => (find("busy").hidden = false), 300);
  const answer = await fetch(url);
  clearTimeout(slow);
  find("busy").hidden = true;
  if (!answer.ok) problem(`The image cannot be shown: ${(await answer.json()).problem}`);
}

function problem(text) {
  find("problem").textContent = text;
  find("problem").hidden = false;
}

function layers() {
  const opacity = find("opacity").value / 100;
  const shown = [{ name: "pixels", opacity: 1 }];
  if (find("masks").checked) shown.push({ name: "masks", opacity });
  if (about.classes.length && find("classes").checked) shown.push({ name: "classes", opacity });
  if (find("outlines").checked) shown.push({ name: "outlines", opacity: 1 });
  return shown;
}

function decorate(context, { x, y, scale, ratio, canvas }) {
  const boxes = find("boxes").checked;
  const names = find("names").checked;
  context.font = `${12 * ratio}px system-ui, sans-serif`;
  context.textBaseline = "bottom";
  for (const one of about.objects) {
    const [y0, x0, y1, x1] = one.box;
    const left = (x0 - x) * scale;
    const top = (y0 - y) * scale;
    const wide = (x1 - x0) * scale;
    const high = (y1 - y0) * scale;
    if (left > canvas.width || top > canvas.height || left + wide < 0 || top + high < 0) continue;
    const marked = one.label === chosen || one.label === hovered;
    if (boxes || marked) {
      context.lineWidth = (marked ? 3 : 1.5) * ratio;
      context.strokeStyle = marked ? "#fff" : css(one.colour);
      context.setLineDash(one.label === chosen ? [6 * ratio, 4 * ratio] : []);
      context.strokeRect(left, top, wide, high);
    }
    if ((names && wide > 18 * ratio) || one.label === chosen) {
      const text = printable(one.class_name) + (one.score === null ? "" : ` ${one.score.toFixed(2)}`);
      const width = context.measureText(text).width + 6 * ratio;
      context.fillStyle = "rgb(0 0 0 / 70%)";
      context.fillRect(left, top - 16 * ratio, width, 16 * ratio);
      context.fillStyle = "#fff";
      context.fillText(text, left + 3 * ratio, top - 1 * ratio);
    }
  }
  context.setLineDash([]);
}

function runs() {
  const select = find("run");
  for (const { run_id, model } of about.others)
    select.append(
      h("option", { value: run_id, selected: run_id === about.run_id }, `${model}, ${run_id}`));
  select.addEventListener("change", () => {
    location.search = address("", { run: select.value });
  });
}

function legend() {
  if (!about.classes.length) return;
  find("classes-switch").hidden = false;
  find("classes").checked = true;
  find("masks").checked = false;
  find("legend").hidden = false;
  find("legend").append(
    ...about.classes.map(({ name, colour }) => h("li", {}, swatch(colour), printable(name))));
}

const COLUMNS = [
  ["label", "object", true],
  ["class_name", "class", false],
  ["score", "score", true],
  ["area", "area px", true],
];

function table() {
  find("objects").querySelector("thead").replaceChildren(
    h("tr", {}, ...COLUMNS.map(([key, name, numeric]) => {
      const sorted = sorting.key === key ? (sorting.down ? "descending" : "ascending") : null;
      return h("th", { class: numeric && "number", "aria-sort": sorted, scope: "col" },
        h("button", { onclick: () => sortBy(key) },
          name + (sorted ? (sorting.down ? " ↓" : " ↑") : "")));
    })));
  const rows = [...about.objects].sort((a, b) => order(a[sorting.key], b[sorting.key]));
  find("objects").querySelector("tbody").replaceChildren(
    ...rows.slice(0, MOST_ROWS).map((one) =>
      h("tr", {
        tabindex: 0, "data-label": one.label, "aria-selected": one.label === chosen ? "true" : null,
        onclick: () => choose(one.label, true),
        onkeydown: (event) => event.key === "Enter" && choose(one.label, true),
        onpointerenter: () => hover(one.label), onpointerleave: () => hover(null),
      },
        h("td", { class: "number" }, swatch(one.colour), String(one.label)),
        h("td", {}, printable(one.class_name)),
        h("td", { class: "number" }, one.score === null ? "–" : one.score.toFixed(2)),
        h("td", { class: "number" }, number(one.area)))));
  const left = about.objects_left_out;
  find("more").hidden = !left && rows.length <= MOST_ROWS;
  find("more").textContent = rows.length <= MOST_ROWS ? ""
    : `${number(rows.length - MOST_ROWS)} more; sort to see others.`;
  if (left)
    find("more").textContent += ` ${number(left)} further objects are in no list and have no box here; `
      + "masks and outlines show them, and a click tells what they are.";
}

function order(a, b) {
  const sign = sorting.down ? -1 : 1;
  if (a === b) return 0;
  if (a === null || b === null) return a === null ? 1 : -1;
  return sign * (a < b ? -1 : 1);
}

function sortBy(key) {
  sorting = { key, down: sorting.key === key ? !sorting.down : key !== "label" && key !== "class_name" };
  table();
}

function hover(label) {
  hovered = label;
  view.draw();
}

async function pick({ y, x }) {
  if (y < 0 || x < 0 || y >= about.height || x >= about.width) return choose(0);
  const { label } = await getJson(`${base}/at/${y}/${x}`, { run: about.run_id });
  choose(label);
}

/** An object of the list, or, of an image with more objects than it holds, what the store says. */
async function known(label) {
  const listed = about.objects.find((object) => object.label === label);
  if (listed || !label || !about.objects_left_out) return listed;
  const { columns } = await getJson(`${base}/object/${label}`, { run: about.run_id });
  const value = Object.fromEntries(columns.map((column) => [column.name, column.value]));
  const one = {
    label, class_name: value.class_name, score: value.score, area: value.area,
    box: [value.bbox_y0, value.bbox_x0, value.bbox_y1, value.bbox_x1], colour: [255, 255, 255],
  };
  about.objects.push(one);
  return one;
}

async function choose(label, show = false) {
  chosen = label || null;
  const one = await known(label);
  if (chosen !== (label || null)) return;
  for (const row of find("objects").querySelectorAll("tbody tr"))
    row.setAttribute("aria-selected", String(Number(row.dataset.label) === label));
  if (show && one) view.show(one.box);
  else view.draw();
  const panel = find("object");
  panel.hidden = !one;
  if (!one) return;
  const told = await getJson(`${base}/object/${label}`, { run: about.run_id });
  if (chosen === label) panel.replaceChildren(...details(one, told));
}

function details(one, told) {
  const crop = (id, label, masked) =>
    address(`/api/image/${encodeURIComponent(id)}/crop/${label}`, { run: about.run_id, masked });
  const name = `object ${one.label}`;
  const values = told.columns.filter(({ value }) => value !== null);
  return [
    h("h2", {}, h("span", {}, `Object ${one.label}: ${printable(one.class_name)}`)),
    h("div", { class: "crops" },
      h("img", { src: crop(imageId, one.label), alt: `pixels around ${name}` }),
      h("img", { src: crop(imageId, one.label, true), alt: `pixels of ${name} alone` })),
    h("details", { open: true }, h("summary", {}, "Most alike"),
      h("p", { class: "soft" },
        told.neighbours.length
          ? `of the same class and run${told.sampled ? ", among the first million objects" : ""}`
          : "no other object of this class"),
      h("div", { class: "near" }, ...told.neighbours.map((other) =>
        h("a", { href: address(`/image/${encodeURIComponent(other.image_id)}`,
                               { run: about.run_id, object: other.label }) },
          h("img", { src: crop(other.image_id, other.label), loading: "lazy",
                     alt: `object ${other.label} of another image` }),
          h("span", {}, `distance ${number(other.distance)}`))))),
    h("details", {}, h("summary", {}, "All measures"),
      h("dl", {}, ...values.flatMap(({ name: key, unit, meaning, value }) => [
        h("dt", { title: meaning }, unit ? `${key}, ${unit}` : key),
        h("dd", {}, Array.isArray(value) ? value.map(number).join(", ")
          : typeof value === "number" ? number(value) : printable(String(value))),
      ]))),
  ];
}

start().catch((error) => problem(error.message));
