import { address, getJson, h, number, printable, s } from "./dom.js";
import { TiledView } from "./tiled.js";

const find = (id) => document.querySelector(`#${id}`);
const imageId = decodeURIComponent(location.pathname.split("/").at(-1));
const asked = new URLSearchParams(location.search);
const names = { a: asked.get("a"), b: asked.get("b") };
const base = `/api/image/${encodeURIComponent(imageId)}`;

// Colours of Okabe and Ito; the lines tell the kinds apart without them.
const KINDS = {
  lost: { colour: "#d55e00", dash: [8, 5], width: 2.5, text: "lost, only before" },
  gained: { colour: "#56b4e9", dash: [], width: 3, text: "gained, only after" },
  changed: { colour: "#f0e442", dash: [2, 3], width: 2, text: "changed" },
  same: { colour: "#a0a0a0", dash: [], width: 1, text: "same" },
};

async function start() {
  const diff = await getJson(`/api/compare/${encodeURIComponent(imageId)}`, names);
  const sides = await Promise.all(diff.runs.map((run) => getJson(base, { run })));
  find("title").textContent = printable(sides[0].path);
  document.title = `${printable(sides[0].path)} - segpipe`;
  find("back").href = address("/compare", names);
  const kinds = [{}, {}];
  for (const label of diff.lost) kinds[0][label] = "lost";
  for (const label of diff.gained) kinds[1][label] = "gained";
  for (const kind of ["changed", "same"])
    for (const [before, after] of diff[kind]) {
      kinds[0][before] = kind;
      kinds[1][after] = kind;
    }
  legend(diff);
  const views = sides.map((about, side) => {
    const id = side ? "after" : "before";
    find(`${id}-name`).textContent =
      `${side ? "After" : "Before"}: ${about.model}, ${about.run_id}, ${number(about.n_objects)} objects`;
    return new TiledView(find(id), {
      height: about.height, width: about.width, tile: about.tile, levels: about.levels,
      layers: () => [
        { name: "pixels", opacity: 1 },
        ...(find("outlines").checked ? [{ name: "outlines", opacity: 0.7 }] : []),
      ],
      decorate: (context, view) => draw(context, view, about.objects, kinds[side]),
      url: (kind, level, row, column) =>
        address(`${base}/tile/${kind}/${level}/${row}/${column}`, { run: about.run_id }),
    });
  });
  for (const [one, other] of [views, [...views].reverse()])
    one.addEventListener("drawn", () => follow(other, one));
  find("outlines").addEventListener("input", () => views.forEach((view) => view.draw()));
}

/** The other side shows the same place; it is drawn only if it does not yet. */
function follow(other, one) {
  if (other.x === one.x && other.y === one.y && other.scale === one.scale) return;
  if (document.activeElement === other.canvas || other.pointers.size) return;
  Object.assign(other, { x: one.x, y: one.y, scale: one.scale, fitted: one.fitted });
  other.draw();
}

function draw(context, { x, y, scale, ratio }, objects, kinds) {
  for (const one of objects) {
    const kind = KINDS[kinds[one.label] ?? "same"];
    const [y0, x0, y1, x1] = one.box;
    context.strokeStyle = kind.colour;
    context.lineWidth = kind.width * ratio;
    context.setLineDash(kind.dash.map((part) => part * ratio));
    context.strokeRect((x0 - x) * scale, (y0 - y) * scale, (x1 - x0) * scale, (y1 - y0) * scale);
  }
  context.setLineDash([]);
}

function legend(diff) {
  find("kinds").append(...Object.entries(KINDS).map(([name, { colour, dash, width, text }]) =>
    h("li", {},
      s("svg", { viewBox: "0 0 40 16", "aria-hidden": "true" },
        s("line", { x1: 0, y1: 8, x2: 40, y2: 8, stroke: colour, "stroke-width": width * 1.5,
                    "stroke-dasharray": dash.join(" ") })),
      `${number(diff[name].length)} ${text}`)));
}

start().catch((error) => {
  find("problem").textContent = error.message;
  find("problem").hidden = false;
});
