// The page, file by file in the order of SCRIPTS in __init__.py, as one script.
//
// All data goes in as text, never as markup: names, paths, bodies and errors come from strangers. The page's policy
// (require-trusted-types-for) makes a browser refuse markup. Each part is built once and then only gets new text, so
// that what the operator reads, has selected or is typing stays where it is.

"use strict";

const ACTING = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]|\p{Cs}/gu;

/** Text with every invisible character that acts, such as one that reverses a line, written as an escape. */
const visible = (text) =>
  String(text).replace(ACTING, (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, "0")}`);

const $ = (id) => document.getElementById(id);

/** An element with attributes and children, which are nodes or text. */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, visible(value));
  element.append(...children.map((child) => (child instanceof Node ? child : visible(child))));
  return element;
}

function drawn(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** The head of a table; with `numeric`, all columns but the first are of figures. */
function heads(titles, numeric) {
  const cells = titles.map((title, at) => h("th", { scope: "col", class: numeric && at ? "n" : "" }, title));
  return h("thead", {}, h("tr", {}, ...cells));
}

/** Give an element this text, unless it has it. */
function put(element, text) {
  const shown = visible(text);
  if (element.textContent !== shown) element.textContent = shown;
}

function name(element, kind) {
  if (element.className !== kind) element.className = kind;
}

const none = (value) => value === null || value === undefined;
const count = (value) => (none(value) ? "–" : value.toLocaleString("en"));
/** So many answers that say that they failed, in words. */
const failedAnswers = (value) =>
  `${count(value)} ${value === 1 ? "answer since the start says that it failed" : "answers since the start say that they failed"}`;
const rate = (value) =>
  none(value) ? "–" : value.toLocaleString("en", { maximumFractionDigits: value < 100 ? 1 : 0 });
const clock = (at) => (none(at) ? "–" : `${String(at).slice(11, 19)} UTC`);

/** As the report writes milliseconds and shares. */
function ms(value) {
  if (none(value)) return "–";
  return value >= 100 ? Math.round(value).toLocaleString("en") : value.toFixed(value >= 10 ? 1 : 2);
}

function share(value) {
  if (none(value)) return "–";
  if (value === 0 || value === 1) return `${value * 100}\u00a0%`;
  const digits = value >= 0.01 && value <= 0.99 ? 1 : 2;
  const text = (value * 100).toFixed(digits);
  if (value > 0.99 && Number(text) === 100) return ">\u00a099.99\u00a0%";
  return value < 0.00005 ? "<\u00a00.01\u00a0%" : `${text}\u00a0%`;
}

function bytes(value) {
  if (none(value)) return "–";
  const units = ["B", "KiB", "MiB", "GiB"];
  let at = 0;
  for (; value >= 1024 && at < units.length - 1; at += 1) value /= 1024;
  return `${value >= 100 || at === 0 ? Math.round(value) : value.toFixed(1)} ${units[at]}`;
}

function span(seconds) {
  const minutes = Math.floor(seconds / 60);
  if (minutes < 1) return `${Math.floor(seconds)} s`;
  if (minutes < 120) return `${minutes} min`;
  return minutes < 2880 ? `${Math.floor(minutes / 60)} h` : `${Math.floor(minutes / 1440)} days`;
}
