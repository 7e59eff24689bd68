
// ---- Tables: the order of their rows, and copies.
//
// A number that the page shows rounded stands in a <data> element, whose value is the number as it was measured. An
// interval is one <data> with both ends and a slash between, or two with " to " between.

const compare = new Intl.Collator("en", { numeric: true }).compare;

/** The cells of *row* by column: a cell that spans several is in the first of them. */
function cellsOf(row) {
  const found = [];
  for (const cell of row.cells) {
    found.push(cell);
    for (let more = 1; more < cell.colSpan; more += 1) found.push(null);
  }
  return found;
}

/** The text of a cell on one line. What stands apart (an interval, the word emulated) follows in brackets. */
function textOf(cell) {
  if (!cell) return "";
  const copied = cell.cloneNode(true);
  for (const gap of copied.querySelectorAll("br")) gap.replaceWith(" ");
  for (const own of copied.querySelectorAll(".ci, .tag")) own.replaceWith(` (${own.textContent.trim()})`);
  return copied.textContent.replace(/\s+/g, " ").replace(/(\p{L})- (?=\p{Ll})/gu, "$1").trim();
}

/** What stands in a cell for programs: {number, interval, unit}, each of them perhaps undefined. */
function readingOf(cell) {
  const all = [...(cell?.querySelectorAll("data") ?? [])];
  const found = { unit: all.map((data) => data.className).find(Boolean) };
  for (let at = 0; at < all.length; at += 1) {
    const [data, next] = [all[at], all[at + 1]];
    if (data.value.includes("/")) found.interval ??= data.value.split("/").map(Number);
    else if (next && data.nextSibling?.textContent === " to " && data.nextElementSibling === next) {
      found.interval ??= [Number(data.value), Number(next.value)];
      at += 1;
    } else if (!data.closest(".ci")) found.number ??= Number(data.value);
  }
  const text = cell && !all.length ? textOf(cell) : "";
  if (/^\d+$/.test(text)) found.number = Number(text);
  return found;
}

const isShown = (row) => getComputedStyle(row).display !== "none";
const isHeading = (row) => row.cells.length === 1 && row.cells[0].scope === "colgroup";

function addTableTools(table) {
  const head = table.tHead?.rows[0];
  const bodies = [...table.tBodies];
  if (!head || !bodies.some((body) => body.rows.length)) return;
  const columns = [...head.cells];
  const original = new Map(bodies.map((body) => [body, [...body.rows]]));
  if (bodies.some((body) => [...body.rows].filter((row) => !isHeading(row)).length > 1)) {
    columns.forEach((th, place) => addSorting(th, place, columns, original));
  }
  const box = table.closest(".scroll") ?? table;
  box.after(tools(
    button("Copy as Markdown", () => {
      const rows = markdownRows(table, columns);
      copy(toMarkdown(rows, columns.map((th, i) => i === 0 || th.classList.contains("text"))), told(rows, "Markdown"));
    }),
    button("Copy as CSV", () => {
      const rows = csvRows(table, columns);
      copy(toCsv(rows), told(rows, "CSV"));
    }),
  ));
}

const told = (rows, format) => `Copied as ${format}: ${plural(rows.length - 1, "row")}`;

function addSorting(th, place, columns, original) {
  const press = button("", () => {
    const next = { ascending: "descending", descending: "none" }[th.getAttribute("aria-sort")] ?? "ascending";
    for (const other of columns) other.removeAttribute("aria-sort");
    if (next !== "none") th.setAttribute("aria-sort", next);
    for (const [body, rows] of original) body.append(...inOrder(rows, place, next));
    say(next === "none" ? "In the order of the report" : `Sorted by ${textOf(th)}, ${next}`, true);
  }, { class: "sort" });
  press.append(...th.childNodes);
  th.append(press);
}

/** Rows by one column. Emulated ones stay below the others: they are another class, and never ranked with them. */
function inOrder(rows, place, direction) {
  if (direction === "none") return rows;
  const way = direction === "descending" ? -1 : 1;
  const keyed = rows.filter((row) => !isHeading(row)).map((row) => {
    const cell = cellsOf(row)[place];
    const { number, interval } = readingOf(cell);
    return { row, number: number ?? interval?.[0] ?? Number.NaN, text: textOf(cell), below: row.classList.contains("emulated") };
  });
  const numeric = keyed.some((one) => !Number.isNaN(one.number));
  keyed.sort((a, b) => {
    if (a.below !== b.below) return a.below ? 1 : -1;
    if (!numeric) return way * compare(a.text, b.text);
    const missing = Number.isNaN(a.number) - Number.isNaN(b.number); // what has no number is last, either way
    return missing || way * (a.number - b.number) || 0;
  });
  return [...rows.filter(isHeading), ...keyed.map((one) => one.row)];
}

/** The rows of a table that are shown, each with the heading that it stands under ("" without). */
function* rowsOf(table) {
  for (const body of table.tBodies) {
    let heading = "";
    for (const row of body.rows) {
      if (isHeading(row)) heading = row.cells[0].firstChild.textContent.trim();
      else if (isShown(row)) yield [heading, row];
    }
  }
}

function markdownRows(table, columns) {
  const found = [columns.map(textOf)];
  let last = "";
  for (const [heading, row] of rowsOf(table)) {
    if (heading !== last) found.push(columns.map((_, place) => (place ? "" : heading)));
    last = heading;
    found.push(fill(cellsOf(row).map(textOf), columns.length));
  }
  return found;
}

const fill = (cells, count) => [...cells, ...Array(Math.max(0, count - cells.length)).fill("")];

/** The same for programs: numbers as they were measured, an interval in two columns, units by their name. */
function csvRows(table, columns) {
  const rows = [...rowsOf(table)];
  const cells = rows.map(([, row]) => cellsOf(row));
  const headed = rows.some(([heading]) => heading); // under each heading numbers have a unit of their own
  const read = cells.map((row) => columns.map((_, place) => readingOf(row[place])));
  const plans = columns.map((th, place) => {
    const mine = read.map((row) => row[place]);
    const units = [...new Set(mine.map((one) => one.unit).filter(Boolean))];
    const ranged = mine.some((one) => one.interval);
    return {
      place, ranged, valued: !ranged || mine.some((one) => one.number !== undefined),
      title: textOf(th), unit: units.length === 1 ? ` (${units[0]})` : "",
    };
  });
  const head = plans.flatMap(({ title, unit, ranged, valued }) => [
    ...(valued ? [title + unit] : []),
    ...(ranged ? [`${title} low${unit}`, `${title} high${unit}`] : []),
  ]);
  const body = rows.map(([heading], index) => [
    ...(headed ? [heading, read[index].map((one) => one.unit).find(Boolean) ?? ""] : []),
    ...plans.flatMap(({ place, ranged, valued }) => {
      const { number, interval } = read[index][place];
      return [
        ...(valued ? [number ?? (interval ? "" : textOf(cells[index][place]))] : []),
        ...(ranged ? interval ?? ["", ""] : []),
      ];
    }),
  ]);
  return [[...(headed ? ["figure", "unit"] : []), ...head], ...body];
}
