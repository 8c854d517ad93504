// The bar of the selection: how much is in it, and taking it elsewhere.

import { count, getJson, problemOf, toast } from "./dom.js";
import { MOST, selection } from "./selection.js";

const $ = (id) => document.querySelector(`#${id}`);
const ENDINGS = { csv: "csv", parquet: "parquet", paths: "txt", sql: "sql", command: "sh" };

/** `shown()` says what "all shown" is: {question, total}. */
export function showSelection(shown) {
  const update = () => {
    const images = selection.images.length;
    const objects = selection.objects.length;
    const parts = [];
    if (images || !objects) parts.push(count(images, "image"));
    if (objects) parts.push(count(objects, "object"));
    $("selected-count").textContent = `${parts.join(", ")} selected`;
    $("select-none").hidden = $("export").disabled = $("copy").disabled = selection.size === 0;
    $("select-none").hidden = selection.size === 0;
    $("selected").classList.toggle("empty", selection.size === 0);
    if (objects && !images) $("export-what").value = "objects";
    formats();
  };
  const formats = () => {
    const text = ["paths", "sql", "command", "csv"].includes($("export-format").value);
    $("copy").hidden = !text;
  };
  $("export-format").addEventListener("change", formats);
  $("select-none").addEventListener("click", () => selection.clear());
  $("select-all").addEventListener("click", () => all(shown()).catch((error) => toast(error.message)));
  $("export").addEventListener("click", () => save().catch((error) => toast(error.message)));
  $("copy").addEventListener("click", () => copy().catch((error) => toast(error.message)));
  selection.addEventListener("change", update);
  update();
}

async function all({ question, total }) {
  if (total > MOST)
    throw new Error(`${count(total, "image")} are shown, a selection holds ${count(MOST, "item")}: filter, or take this filter as SQL`);
  const items = [];
  for (let offset = 0; offset < total; offset += 500) {
    const { rows } = await getJson("/api/images", { ...question, offset, limit: 500 });
    items.push(...rows.map((row) => ({ image_id: row.image_id, run: row.run_id })));
  }
  selection.add(items);
}

async function exported() {
  const body = { format: $("export-format").value, what: $("export-what").value, items: [...selection.items.values()] };
  const answer = await fetch("/api/selection", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(await problemOf(answer));
  const missing = Number(answer.headers.get("X-Missing") ?? 0);
  return { answer, missing, ...body };
}

const about = (missing) => (missing ? `; ${count(missing, "item")} of the selection not in the store any more` : "");

async function save() {
  const { answer, missing, format, what } = await exported();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await answer.blob());
  link.download = `selection-${what}.${ENDINGS[format]}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  toast(`Saved ${link.download}${about(missing)}`);
}

async function copy() {
  const { answer, missing } = await exported();
  await navigator.clipboard.writeText(await answer.text());
  toast(`Copied${about(missing)}`);
}
