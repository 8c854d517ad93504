// Elements made of names, attributes and children; a child that is text stays text.

const SVG = "http://www.w3.org/2000/svg";
const SVG_NAMES = new Set(["svg", "g", "path", "rect", "line", "circle", "text", "title"]);

/**
 * h("a", {href: "/", class: "x", onclick: f, hidden: true}, "text", element)
 *
 * An attribute that is null or false is left out, a function is a listener; `null` children too.
 */
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  return dressed(element, attributes, children);
}

/** The same for SVG. */
export function s(name, attributes = {}, ...children) {
  if (!SVG_NAMES.has(name)) throw new Error(`no SVG element of ours: ${name}`);
  return dressed(document.createElementNS(SVG, name), attributes, children);
}

function dressed(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) {
      if (typeof value !== "function") throw new Error(`${key}: a listener is a function`);
      element.addEventListener(key.slice(2), value);
    } else element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** An address below this server, its parameters encoded; null ones are left out, lists repeat. */
export function address(path, parameters = {}) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(parameters))
    for (const one of Array.isArray(value) ? value : [value])
      if (one !== null && one !== undefined && one !== "") query.append(key, one);
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}

/** JSON of an address; an Error with the server's own sentence where there is none. */
export async function getJson(path, parameters = {}, options = {}) {
  const answer = await fetch(address(path, parameters), options);
  if (answer.ok) return answer.json();
  throw new Error(await problemOf(answer));
}

/** What the server says of a request that it did not answer. */
export async function problemOf(answer) {
  const text = await answer.text();
  try {
    return JSON.parse(text).problem ?? text;
  } catch {
    return text || `${answer.status} ${answer.statusText}`;
  }
}

/** A name as one line: characters that steer the text around them are spelled out. */
export function printable(text) {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (c) => encodeURIComponent(c));
}

const whole = new Intl.NumberFormat("en");
/** A number for people: 12,345; 0.123; 1.2e-5. */
export function number(value) {
  if (value === null || value === undefined) return "–";
  if (Number.isInteger(value)) return whole.format(value);
  const size = Math.abs(value);
  if (size >= 1000) return whole.format(Math.round(value));
  if (size !== 0 && size < 0.001) return value.toExponential(1);
  return String(Number(value.toPrecision(3)));
}

/** "1 image", "2 images". */
export function count(n, one, many = one + "s") {
  return `${whole.format(n)} ${n === 1 ? one : many}`;
}

let hiding = 0;
/** A short message at the bottom. */
export function toast(text) {
  const box = document.querySelector("#toast");
  box.textContent = text;
  box.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => (box.hidden = true), 4000);
}
