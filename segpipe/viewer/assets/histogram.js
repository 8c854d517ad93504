// One histogram: grey bars for the whole run, coloured ones for what is shown, a brush that sets the
// range, and two fields that do the same with numbers.

import { h, number, s } from "./dom.js";

const WIDTH = 240;
const HEIGHT = 56;

export class Histogram {
  /** `changed(low, high)` is called with texts, "" for no end; `removed` when it is closed. */
  constructor(column, { changed, removed }) {
    this.column = column;
    this.changed = changed;
    this.svg = s("svg", {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", class: "bars",
      role: "img", "aria-label": `Histogram of ${column.name}`,
    });
    this.low = this.field("from");
    this.high = this.field("to");
    this.axis = h("div", { class: "axis soft" });
    this.about = h("span", { class: "soft" });
    const close = h("button", { type: "button", class: "quiet tiny", onclick: removed, "aria-label": `Remove the histogram of ${column.name}` }, "×");
    this.clear = h("button", { type: "button", class: "quiet tiny", hidden: true, onclick: () => changed("", "") }, "Clear");
    const unit = column.unit && column.unit !== "0..1" ? ` (${column.unit})` : "";
    this.element = h("figure", { class: "histogram", "data-column": column.name },
      h("figcaption", { title: column.meaning },
        h("b", {}, column.name), h("span", { class: "soft" }, unit), this.about,
        h("span", { class: "grow" }), this.clear, close),
      this.svg, this.axis,
      h("div", { class: "ends" }, this.low, h("span", { class: "soft" }, "to"), this.high));
    this.listen();
  }

  field(which) {
    return h("input", {
      type: "number", step: "any", class: "end", "aria-label": `${this.column.name} ${which}`,
      onchange: () => this.changed(this.low.value, this.high.value),
    });
  }

  /** Show an answer of /api/histogram. */
  show(data, [low, high]) {
    this.data = data;
    this.low.value = low;
    this.high.value = high;
    this.clear.hidden = low === "" && high === "";
    this.svg.replaceChildren();
    this.axis.replaceChildren();
    const { edges } = data;
    this.about.textContent = edges.length ? "" : " no values";
    if (!edges.length) return;
    const most = Math.max(...data.all, 1);
    const mostShown = Math.max(...data.shown, 1);
    const width = WIDTH / data.all.length;
    // What is shown may be a sliver of the whole: it has a scale of its own.
    const bars = (counts, top, kind) => counts.map((count, i) => {
      const height = count ? Math.max(1.5, (count / top) * HEIGHT) : 0;
      const label = `${number(edges[i])} to ${number(edges[i + 1])}: ${number(count)}`;
      return s("rect", { class: kind, x: i * width + 0.4, y: HEIGHT - height, width: Math.max(0.5, width - 0.8), height }, s("title", {}, label));
    });
    this.svg.append(...bars(data.all, most, "whole"), ...bars(data.shown, mostShown, "shown"));
    this.brush = s("rect", { class: "brush", y: 0, height: HEIGHT });
    this.svg.append(this.brush);
    if (low !== "" || high !== "") this.drawBrush(this.position(low, 0), this.position(high, 1));
    else this.drawBrush(0, 0);
    this.axis.append(
      h("span", {}, number(edges[0])), h("span", {}, data.log ? "log scale" : ""),
      h("span", {}, number(edges.at(-1))));
  }

  /** Where a value lies, 0..1. */
  position(text, otherwise) {
    if (text === "") return otherwise;
    const { edges, log } = this.data;
    const scale = log ? (v) => Math.log(Math.max(v, edges[0])) : (v) => v;
    const share = (scale(Number(text)) - scale(edges[0])) / (scale(edges.at(-1)) - scale(edges[0]));
    return Math.min(1, Math.max(0, share));
  }

  drawBrush(from, to) {
    this.brush.setAttribute("x", from * WIDTH);
    this.brush.setAttribute("width", Math.max(0, (to - from) * WIDTH));
  }

  /** Brushing: from where the pointer went down to where it went up, by whole bins. */
  listen() {
    let start = null;
    const place = (event) => {
      const box = this.svg.getBoundingClientRect();
      return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    };
    this.svg.addEventListener("pointerdown", (event) => {
      if (!this.data?.edges.length || event.button !== 0) return;
      start = place(event);
      this.svg.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    this.svg.addEventListener("pointermove", (event) => {
      if (start === null) return;
      const now = place(event);
      this.drawBrush(Math.min(start, now), Math.max(start, now));
    });
    const end = (event) => {
      if (start === null) return;
      const [from, to] = [start, place(event)].sort((a, b) => a - b);
      start = null;
      this.changed(...this.range(from, to));
    };
    this.svg.addEventListener("pointerup", end);
    this.svg.addEventListener("pointercancel", () => (start = null));
  }

  range(from, to) {
    const { edges } = this.data;
    const bins = edges.length - 1;
    const first = Math.min(bins - 1, Math.floor(from * bins));
    const last = Math.min(bins - 1, Math.max(first, Math.ceil(to * bins) - 1));
    const short = (value) => String(Number(value.toPrecision(4)));
    const whole = edges.length > 1 && edges[1] - edges[0] === 1 && Number.isInteger(edges[0]);
    // The ends of the axis are no ends: nothing lies beyond them.
    const low = first === 0 ? "" : whole ? String(edges[first]) : short(edges[first]);
    const high = last === bins - 1 ? "" : whole ? String(edges[last]) : short(edges[last + 1]);
    return [low, high];
  }
}
