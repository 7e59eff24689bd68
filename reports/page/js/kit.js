// What follows is optional: without it the page says all that it says with it. It adds what paper has not: the values
// behind marks, tables in another order, subjects left out, copies for other programs. It asks nobody for anything, and
// it sets text as text: what came from a run is never taken as markup.

/** An element with attributes and children. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A button that says what it does. */
function button(text, act, attributes = {}) {
  const element = make("button", { type: "button", ...attributes }, text);
  element.addEventListener("click", act);
  return element;
}

/** A row of buttons. */
const tools = (...children) => make("div", { class: "tools" }, ...children);

const main = document.querySelector("main");
const live = main.appendChild(make("p", { class: "said", role: "status" }));
let silence;

/** Says *text* at the end of the window, and to a screen reader; what can be seen anyhow is said to the latter alone. */
function say(text, seen = false) {
  clearTimeout(silence);
  live.classList.toggle("offstage", seen);
  live.textContent = text;
  silence = setTimeout(() => { live.textContent = ""; }, 4000);
}

const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

/** Copies *text*; where the browser keeps its clipboard to itself, by way of a selection. */
async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const before = document.activeElement;
    const area = main.appendChild(make("textarea", { class: "offstage", "aria-hidden": "true" }));
    area.value = text;
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    before?.focus();
    if (!done) return say("The browser does not let this page copy.");
  }
  return say(what);
}

/** Saves *text* as a file, from memory. */
function save(text, name, what) {
  const address = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
  say(what);
}

/** A name for a file that is about this page. */
const fileName = (...parts) =>
  `${[document.title, ...parts].join(" ").replace(/[^\p{L}\p{N}._]+/gu, "-").replace(/^[-.]+|-+$/g, "").slice(0, 120)}.csv`;

/**
 * Rows of cells as CSV (RFC 4180). A number is written as it was measured. A text that a spreadsheet would take for a
 * formula gets an apostrophe before it: a label must not be run.
 */
function toCsv(rows) {
  const cell = (value) => {
    if (typeof value === "number" || value === null) return String(value ?? "");
    const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return rows.map((row) => `${row.map(cell).join(",")}\r\n`).join("");
}

/** Rows of cells as a table of Markdown, the first as its head; *left* says which columns hold text. */
function toMarkdown(rows, left) {
  const cell = (value) => String(value).replace(/\s+/g, " ").replace(/[\\`*_[\]<>|&~]/g, "\\$&");
  const line = (cells) => `| ${cells.join(" | ")} |\n`;
  const [head, ...body] = rows.map((row) => row.map(cell));
  return line(head) + line(head.map((_, place) => (left[place] ? ":--" : "--:"))) + body.map(line).join("");
}
