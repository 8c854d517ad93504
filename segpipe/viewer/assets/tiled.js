// A canvas that shows a tiled picture with layers over it: pan, zoom, and what was clicked.

const MOST_TILES = 600;

export class TiledView extends EventTarget {
  /**
   * layers(): [{name, opacity, smooth}], bottom first; tile(name, level, row, column): an address;
   * decorate(context, view): draws over the tiles, in picture coordinates turned to the screen.
   */
  constructor(canvas, { height, width, tile, levels, layers, url, decorate }) {
    super();
    Object.assign(this, { canvas, height, width, tile, levels, layers, url, decorate });
    this.context = canvas.getContext("2d");
    this.tiles = new Map();
    this.pointers = new Map();
    this.fitted = true;
    new ResizeObserver(() => this.resize()).observe(canvas);
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"])
      canvas.addEventListener(name, (event) => this.up(event));
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.key(event));
    this.resize();
  }

  resize() {
    const box = this.canvas.getBoundingClientRect();
    this.ratio = devicePixelRatio || 1;
    this.canvas.width = Math.max(1, Math.round(box.width * this.ratio));
    this.canvas.height = Math.max(1, Math.round(box.height * this.ratio));
    if (this.fitted) this.fit();
    else this.draw();
  }

  fit() {
    const { canvas } = this;
    this.scale = Math.min(canvas.width / this.width, canvas.height / this.height) * 0.96;
    this.x = this.width / 2 - canvas.width / this.scale / 2;
    this.y = this.height / 2 - canvas.height / this.scale / 2;
    this.fitted = true;
    this.draw();
  }

  /** Show this box [y0, x0, y1, x1] with some of what is around it. */
  show([y0, x0, y1, x1]) {
    const room = Math.max(y1 - y0, x1 - x0, 24) * 3;
    this.scale = Math.min(this.canvas.width, this.canvas.height) / room;
    this.x = (x0 + x1) / 2 - this.canvas.width / this.scale / 2;
    this.y = (y0 + y1) / 2 - this.canvas.height / this.scale / 2;
    this.fitted = false;
    this.draw();
  }

  zoom(factor, px = this.canvas.width / 2, py = this.canvas.height / 2) {
    const before = [this.x + px / this.scale, this.y + py / this.scale];
    const least = (Math.min(this.canvas.width / this.width, this.canvas.height / this.height)) / 4;
    this.scale = Math.min(64 * this.ratio, Math.max(least, this.scale * factor));
    this.x = before[0] - px / this.scale;
    this.y = before[1] - py / this.scale;
    this.fitted = false;
    this.draw();
  }

  pan(dx, dy) {
    this.x = Math.min(this.width, Math.max(-this.canvas.width / this.scale, this.x + dx / this.scale));
    this.y = Math.min(this.height, Math.max(-this.canvas.height / this.scale, this.y + dy / this.scale));
    this.fitted = false;
    this.draw();
  }

  /** A point of the screen as a pixel {y, x} of the picture. */
  pixel(event) {
    const box = this.canvas.getBoundingClientRect();
    return {
      y: Math.floor(this.y + ((event.clientY - box.top) * this.ratio) / this.scale),
      x: Math.floor(this.x + ((event.clientX - box.left) * this.ratio) / this.scale),
    };
  }

  down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, event);
    this.moved = this.pointers.size > 1;
  }

  move(event) {
    const last = this.pointers.get(event.pointerId);
    if (!last) return;
    const others = [...this.pointers.values()].filter((one) => one.pointerId !== event.pointerId);
    const dx = (last.clientX - event.clientX) * this.ratio;
    const dy = (last.clientY - event.clientY) * this.ratio;
    if (Math.abs(dx) + Math.abs(dy) > 3) this.moved = true;
    if (others.length) {
      const [other] = others;
      const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
      const box = this.canvas.getBoundingClientRect();
      const px = ((event.clientX + other.clientX) / 2 - box.left) * this.ratio;
      const py = ((event.clientY + other.clientY) / 2 - box.top) * this.ratio;
      this.zoom(apart(event) / Math.max(1, apart(last)), px, py);
      this.pan(dx / 2, dy / 2);
    } else if (this.moved) this.pan(dx, dy);
    if (this.moved) this.pointers.set(event.pointerId, event);
  }

  up(event) {
    if (this.pointers.delete(event.pointerId) && !this.moved && event.type === "pointerup")
      this.dispatchEvent(new CustomEvent("pick", { detail: this.pixel(event) }));
  }

  wheel(event) {
    event.preventDefault();
    const box = this.canvas.getBoundingClientRect();
    const lines = event.deltaMode === 1 ? 16 : 1;
    const factor = Math.exp(-Math.max(-200, Math.min(200, event.deltaY * lines)) / 300);
    this.zoom(factor, (event.clientX - box.left) * this.ratio, (event.clientY - box.top) * this.ratio);
  }

  key(event) {
    const step = 80 * this.ratio;
    const keys = {
      ArrowLeft: () => this.pan(-step, 0), ArrowRight: () => this.pan(step, 0),
      ArrowUp: () => this.pan(0, -step), ArrowDown: () => this.pan(0, step),
      "+": () => this.zoom(1.4), "=": () => this.zoom(1.4), "-": () => this.zoom(1 / 1.4),
      0: () => this.fit(),
    };
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  }

  draw() {
    if (this.due) return;
    this.due = requestAnimationFrame(() => {
      this.due = 0;
      this.paint();
    });
  }

  paint() {
    const { context, canvas, scale } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    const level = Math.max(0, Math.min(this.levels - 1, Math.floor(Math.log2(1 / scale) + 0.25)));
    this.waiting = 0;
    for (const { name, opacity } of this.layers()) {
      context.globalAlpha = opacity;
      context.imageSmoothingEnabled = name === "pixels" && scale < 2;
      // A coarser level shows through until the tiles of this one are there.
      if (name === "pixels" && level < this.levels - 1) this.paintLevel(name, this.levels - 1);
      this.paintLevel(name, level);
    }
    context.globalAlpha = 1;
    this.decorate(context, this);
    canvas.dataset.waiting = String(this.waiting);
    canvas.dataset.drawn = String((this.drawn = (this.drawn ?? 0) + 1));
    this.dispatchEvent(new Event("drawn"));
  }

  paintLevel(name, level) {
    const side = this.tile * 2 ** level;
    const first = (start) => Math.max(0, Math.floor(start / side));
    const last = (end, size) => Math.min(Math.ceil(size / side), Math.ceil(end / side));
    const bottom = last(this.y + this.canvas.height / this.scale, this.height);
    const right = last(this.x + this.canvas.width / this.scale, this.width);
    for (let row = first(this.y); row < bottom; row++)
      for (let column = first(this.x); column < right; column++) {
        const image = this.load(this.url(name, level, row, column));
        if (!image.complete) this.waiting++;
        if (!image.complete || !image.naturalWidth) continue;
        const px = (column * side - this.x) * this.scale;
        const py = (row * side - this.y) * this.scale;
        // Sizes of levels are rounded up: the tile at the end may stand over by half a pixel.
        const w = image.naturalWidth * 2 ** level * this.scale;
        const h = image.naturalHeight * 2 ** level * this.scale;
        this.context.drawImage(image, px, py, w, h);
      }
  }

  load(url) {
    let image = this.tiles.get(url);
    if (image) {
      this.tiles.delete(url);
    } else {
      image = new Image();
      image.addEventListener("load", () => this.draw());
      image.addEventListener("error", () => this.draw());
      image.src = url;
    }
    this.tiles.set(url, image); // the last ones are those that were used last
    if (this.tiles.size > MOST_TILES) this.tiles.delete(this.tiles.keys().next().value);
    return image;
  }
}
