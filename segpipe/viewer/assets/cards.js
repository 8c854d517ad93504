// The grid: as many cards as fit are there, whatever the number of images; pages are asked for when
// they come into sight.

import { address, count, getJson, h, number, printable, problemOf } from "./dom.js";
import { selection } from "./selection.js";

const PAGE = 100;
const KEPT_PAGES = 30;
const GAP = 12;
const TEXT = 62;
const OVERSCAN = 2;
export const SECTION = 200000; // a browser's page has a greatest height

export class Cards {
  constructor(scroll, space, { failed }) {
    this.scroll = scroll;
    this.space = space;
    this.failed = failed;
    this.cards = new Map();
    this.focused = 0;
    this.overlays = true;
    this.reset({}, 0, 0, []);
    scroll.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.measure()).observe(scroll);
    space.addEventListener("keydown", (event) => this.key(event));
    selection.addEventListener("change", () => this.mark());
  }

  /** Show another answer: its first page is known. */
  reset(question, total, first, rows) {
    this.question = question;
    this.first = first;
    this.total = Math.max(0, Math.min(SECTION, total - first));
    this.pages = new Map([[0, rows]]);
    this.pending?.abort();
    this.pending = new AbortController();
    this.asked = new Set();
    for (const card of this.cards.values()) this.drop(card);
    this.cards.clear();
    this.focused = 0;
    this.measure();
  }

  measure() {
    const width = this.scroll.clientWidth - 2 * GAP;
    this.columns = Math.max(width < 420 ? 2 : 1, Math.floor((width + GAP) / (210 + GAP)));
    this.width = (width - (this.columns - 1) * GAP) / this.columns;
    this.height = Math.round(this.width * 0.75) + TEXT;
    const rows = Math.ceil(this.total / this.columns);
    this.space.style.height = `${rows * (this.height + GAP) + GAP}px`;
    for (const [index, card] of this.cards) this.put(card, index);
    this.draw();
  }

  draw() {
    const step = this.height + GAP;
    const top = Math.floor(this.scroll.scrollTop / step) - OVERSCAN;
    const bottom = Math.ceil((this.scroll.scrollTop + this.scroll.clientHeight) / step) + OVERSCAN;
    const from = Math.max(0, top * this.columns);
    const to = Math.min(this.total, bottom * this.columns);
    for (const [index, card] of this.cards)
      if (index < from || index >= to) {
        this.drop(card);
        this.cards.delete(index);
      }
    for (let index = from; index < to; index++) {
      const row = this.row(index);
      if (row && !this.cards.has(index)) this.make(index, row);
    }
  }

  row(index) {
    const page = Math.floor(index / PAGE);
    const rows = this.pages.get(page);
    if (rows) return rows[index % PAGE];
    this.ask(page);
    return null;
  }

  async ask(page) {
    if (this.asked.has(page)) return;
    this.asked.add(page);
    const { signal } = this.pending;
    const asked = this.question;
    try {
      const answer = await getJson("/api/images", { ...asked, offset: this.first + page * PAGE, limit: PAGE }, { signal });
      if (asked !== this.question) return;
      this.pages.set(page, answer.rows);
      for (const old of [...this.pages.keys()].slice(0, -KEPT_PAGES)) {
        this.pages.delete(old);
        this.asked.delete(old);
      }
      this.draw();
    } catch (error) {
      if (error.name !== "AbortError") this.failed(error);
    }
  }

  make(index, row) {
    const item = { image_id: row.image_id, run: row.run_id };
    const name = printable(row.path);
    const box = h("input", { type: "checkbox", class: "choose", tabindex: "-1", "aria-label": `Select ${name}`, onchange: () => this.choose(item, box) });
    const picture = h("span", { class: "picture" });
    const link = h("a", { class: "open", href: address(`/image/${encodeURIComponent(row.image_id)}`, { run: row.run_id }), tabindex: index === this.focused ? "0" : "-1", onfocus: () => this.aim(index) },
      picture, h("span", { class: "name", title: name }, name.split("/").at(-1)), h("span", { class: "facts" }, facts(row)));
    const card = h("div", { class: "card", role: "listitem", "data-image": row.image_id, "data-run": row.run_id }, link, box);
    card.item = item;
    box.checked = selection.has(item);
    card.classList.toggle("chosen", box.checked);
    this.put(card, index);
    this.cards.set(index, card);
    this.space.append(card);
    this.fill(picture, row);
  }

  /** The picture, or why there is none. */
  fill(picture, row) {
    const said = (text) => picture.replaceChildren(h("span", { class: "why" }, printable(text)));
    if (row.status !== "ok") {
      said(`${row.reason}: ${row.detail}`);
      picture.classList.add("failed");
      return;
    }
    const source = address("/api/thumbnail", { image_id: row.image_id, run: row.run_id, plain: this.overlays ? null : "true" });
    const image = h("img", { src: source, alt: "", decoding: "async", draggable: "false" });
    image.addEventListener("error", async () => {
      if (!image.isConnected) return;
      try {
        said(await problemOf(await fetch(source)));
      } catch {
        said("the viewer does not answer");
      }
    });
    picture.replaceChildren(image);
  }

  drop(card) {
    card.querySelector("img")?.removeAttribute("src"); // what is out of sight is not waited for
    card.remove();
  }

  put(card, index) {
    const x = GAP + (index % this.columns) * (this.width + GAP);
    const y = GAP + Math.floor(index / this.columns) * (this.height + GAP);
    card.style.transform = `translate(${x}px, ${y}px)`;
    card.style.width = `${this.width}px`;
    card.style.height = `${this.height}px`;
  }

  choose(item, box) {
    try {
      selection.toggle(item, box.checked);
    } catch (error) {
      this.failed(error);
    }
  }

  mark() {
    for (const card of this.cards.values()) {
      const chosen = selection.has(card.item);
      card.querySelector(".choose").checked = chosen;
      card.classList.toggle("chosen", chosen);
    }
  }

  aim(index) {
    this.cards.get(this.focused)?.querySelector(".open").setAttribute("tabindex", "-1");
    this.focused = index;
    this.cards.get(index)?.querySelector(".open").setAttribute("tabindex", "0");
  }

  /** Arrows, Home, End, PageUp and PageDown go from card to card; x or space selects. */
  key(event) {
    const page = this.columns * Math.max(1, Math.floor(this.scroll.clientHeight / this.height));
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.columns, ArrowUp: -this.columns, PageDown: page, PageUp: -page, Home: -this.total, End: this.total };
    const index = this.focused;
    if (event.key in steps) {
      this.focus(Math.min(this.total - 1, Math.max(0, index + steps[event.key])));
      event.preventDefault();
    } else if ((event.key === "x" || event.key === " ") && event.target.matches(".open")) {
      this.cards.get(index)?.querySelector(".choose").click();
      event.preventDefault();
    }
  }

  focus(index) {
    const top = Math.floor(index / this.columns) * (this.height + GAP);
    if (top < this.scroll.scrollTop) this.scroll.scrollTop = top;
    const bottom = top + this.height + 2 * GAP - this.scroll.clientHeight;
    if (bottom > this.scroll.scrollTop) this.scroll.scrollTop = bottom;
    this.draw();
    this.aim(index);
    this.cards.get(index)?.querySelector(".open").focus({ preventScroll: true });
  }
}

function facts(row) {
  if (row.status !== "ok") return "failed";
  const parts = [count(row.n ?? 0, "object") + (row.saturated ? " or more" : "")];
  if (row.lowest !== null) parts.push(`score ≥ ${row.lowest.toFixed(2)}`);
  else if (row.largest !== null) parts.push(`≤ ${number(row.largest)} px`);
  return parts.join(" · ");
}
