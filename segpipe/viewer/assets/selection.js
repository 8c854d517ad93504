// What was chosen, kept by the browser for each store: images {image_id, run}, objects
// {image_id, run, label}. Every open page of the store hears of a change.

const KEY = `segpipe:selection:${document.body.dataset.store}`;
const keyOf = ({ image_id, run, label }) => `${run} ${image_id} ${label ?? ""}`;

export const MOST = 20000;

class Selection extends EventTarget {
  constructor() {
    super();
    this.items = read();
    addEventListener("storage", (event) => {
      if (event.key !== KEY) return;
      this.items = read();
      this.dispatchEvent(new Event("change"));
    });
  }

  get size() {
    return this.items.size;
  }

  get images() {
    return [...this.items.values()].filter((item) => item.label === undefined);
  }

  get objects() {
    return [...this.items.values()].filter((item) => item.label !== undefined);
  }

  has(item) {
    return this.items.has(keyOf(item));
  }

  /** Put in or take out one item; says whether it is in now. */
  toggle(item, on = !this.has(item)) {
    if (on) this.add([item]);
    else this.remove([item]);
    return on;
  }

  add(items) {
    const before = this.items.size;
    for (const { image_id, run, label } of items) {
      const item = label === undefined ? { image_id, run } : { image_id, run, label };
      this.items.set(keyOf(item), item);
    }
    if (this.items.size > MOST) {
      for (const key of [...this.items.keys()].slice(Math.max(before, MOST))) this.items.delete(key);
      this.write();
      throw new Error(`a selection holds at most ${MOST} items; filter, and export by SQL`);
    }
    this.write();
  }

  remove(items) {
    for (const item of items) this.items.delete(keyOf(item));
    this.write();
  }

  clear() {
    this.items.clear();
    this.write();
  }

  write() {
    localStorage.setItem(KEY, JSON.stringify([...this.items.values()]));
    this.dispatchEvent(new Event("change"));
  }
}

function read() {
  try {
    const items = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return new Map(items.map((item) => [keyOf(item), item]));
  } catch {
    return new Map(); // somebody else's: start anew
  }
}

export const selection = new Selection();
