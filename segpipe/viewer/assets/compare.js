import { address, count, getJson, h, number, printable } from "./dom.js";

const find = (id) => document.querySelector(`#${id}`);
const asked = new URLSearchParams(location.search);

async function start() {
  const runs = await getJson("/api/runs");
  const names = runs.map(({ run_id }) => run_id);
  const a = asked.get("a") ?? names.at(-2) ?? names.at(-1);
  const b = asked.get("b") ?? names.at(-1);
  for (const [id, chosen] of [["a", a], ["b", b]]) {
    const known = names.includes(chosen) ? runs : [{ run_id: chosen, model: "" }, ...runs];
    find(id).append(...known.map(({ run_id, model, images }) =>
      h("option", { value: run_id, selected: run_id === chosen },
        [model, run_id, images == null ? null : count(images, "image")].filter(Boolean).join(", "))));
    find(id).addEventListener("change", () => {
      location.search = address("", { a: find("a").value, b: find("b").value });
    });
  }
  if (!b) {
    find("totals").textContent = "There is no run in this store yet.";
    return;
  }
  for (;;) {
    const told = await getJson("/api/compare", { a, b });
    show(told, a, b);
    if (told.ended || told.problem) return;
    await new Promise((resolve) => setTimeout(resolve, 400));
  }
}

function show(told, a, b) {
  const { objects } = told;
  const others = Object.entries(told.not_compared).map(([why, n]) => `${number(n)} ${why}`);
  find("totals").textContent =
    `${told.ended ? "" : "So far: "}${count(told.images, "image")} in both, ${number(told.unlike)} of them differ` +
    (others.length ? ` (not compared: ${others.join(", ")})` : "") +
    `. Objects: ${number(objects.same)} same, ${number(objects.changed)} changed, ` +
    `${number(objects.lost)} lost, ${number(objects.gained)} gained.`;
  if (told.problem) problem(told.problem);
  find("images").hidden = !told.most.length;
  find("images").querySelector("tbody").replaceChildren(...told.most.map((one) =>
    h("tr", {},
      h("td", {}, h("a", { href: address(`/compare/${encodeURIComponent(one.image_id)}`, { a, b }) },
        printable(one.path))),
      ...["same", "changed", "lost", "gained"].map((key) => h("td", { class: "number" }, number(one[key]))))));
}

function problem(text) {
  find("problem").textContent = text;
  find("problem").hidden = false;
}

start().catch((error) => problem(error.message));
