
// ---- Figures: the value of a mark under the pointer or the keyboard, and the numbers behind a figure as a file.
//
// The <metadata> of a drawing holds its numbers as JSON: {columns, subjects, emulated, rows}. A row is [number of its
// subject, cell..., words]; an element with data-row shows that row. The drawing for a phone shares those of the one for a desk.

const REACH = 22; // so far from a mark, in pixels, a pointer still means it: a finger is no needle

const value = main.appendChild(make("div", { class: "value", "aria-hidden": "true" }));
let active = null; // the figure whose value is shown

function numbersOf(svg) {
  const box = svg.closest("[data-chart]");
  const own = svg.querySelector("metadata") ?? [...document.querySelectorAll("[data-chart] metadata")]
    .find((other) => other.closest("[data-chart]").dataset.chart === box?.dataset.chart);
  try {
    return own && JSON.parse(own.textContent);
  } catch {
    return null; // without its numbers a figure is still a figure
  }
}

/** The name of a subject, with its class of result: that is said wherever a number is. */
const named = (numbers, subject) => numbers.subjects[subject] + (numbers.emulated[subject] ? " (emulated)" : "");

class Marks {
  constructor(svg, numbers) {
    this.svg = svg;
    this.numbers = numbers;
    this.marks = [...svg.querySelectorAll("[data-row]")] // subject by subject, however they lie over each other
      .sort((a, b) => this.row(a)[0] - this.row(b)[0] || a.dataset.row - b.dataset.row);
    this.current = null;
    if (!this.marks.length) return;
    svg.setAttribute("role", "group"); // no picture any more: its marks can be reached
    this.enter(this.marks[0]);
    svg.addEventListener("pointermove", (event) => this.point(event));
    svg.addEventListener("pointerdown", (event) => this.point(event));
    svg.addEventListener("pointerleave", () => this.leave());
    svg.addEventListener("focusin", (event) => this.show(event.target.closest("[data-row]")));
    svg.addEventListener("focusout", () => this.leave());
    svg.addEventListener("keydown", (event) => this.key(event));
  }

  row(mark) { return this.numbers.rows[mark.dataset.row]; }
  subject(mark) { return named(this.numbers, this.row(mark)[0]); }
  words(mark) { return this.row(mark).at(-1); }
  shown() { return this.marks.filter((mark) => mark.getClientRects().length); }

  /** Makes *mark* the one of the figure that the tab key leads to. */
  enter(mark) {
    this.entry?.removeAttribute("tabindex");
    this.entry = mark;
    mark.setAttribute("tabindex", "0");
    mark.setAttribute("role", "img");
    mark.setAttribute("aria-label", `${this.subject(mark)}: ${this.words(mark)}`);
  }

  /** The mark within reach of the pointer; of several, the one whose middle is nearest. */
  point(event) {
    let best = null;
    let least = [REACH, Infinity];
    for (const mark of this.shown()) {
      const box = mark.getBoundingClientRect();
      const x = Math.max(box.left - event.clientX, event.clientX - box.right, 0);
      const y = Math.max(box.top - event.clientY, event.clientY - box.bottom, 0);
      const beside = Math.hypot(x, y);
      const middle = Math.hypot((box.left + box.right) / 2 - event.clientX, (box.top + box.bottom) / 2 - event.clientY);
      if (beside < least[0] || (beside === least[0] && middle < least[1])) [best, least] = [mark, [beside, middle]];
    }
    if (best) this.show(best);
    else this.leave();
  }

  show(mark) {
    if (!mark || mark === this.current) return;
    this.leave();
    this.current = mark;
    mark.classList.add("at");
    value.replaceChildren(make("b", {}, this.subject(mark)), ` ${this.words(mark)}`);
    value.classList.add("on");
    active = this;
    this.place();
  }

  /** Sets the value above its mark, or below where the window ends. */
  place() {
    const box = this.current.getBoundingClientRect();
    const [wide, high] = [value.offsetWidth, value.offsetHeight];
    const left = Math.min(Math.max(8, (box.left + box.right - wide) / 2), document.documentElement.clientWidth - wide - 8);
    const top = box.top - high - 8 > 0 ? box.top - high - 8 : box.bottom + 8;
    value.style.setProperty("left", `${left}px`);
    value.style.setProperty("top", `${top}px`);
  }

  leave() {
    this.current?.classList.remove("at");
    this.current = null;
    if (active === this) active = null;
    value.classList.remove("on");
  }

  /** Left and right go from mark to mark, up and down from subject to subject. */
  key(event) {
    const marks = this.shown();
    const at = marks.indexOf(event.target.closest("[data-row]"));
    const others = (some) => some.find((mark) => this.row(mark)[0] !== this.row(marks[at])[0]);
    const to = {
      ArrowRight: () => marks[at + 1],
      ArrowLeft: () => marks[at - 1],
      ArrowDown: () => others(marks.slice(at)),
      ArrowUp: () => others(marks.slice(0, at).reverse()),
      Home: () => marks[0],
      End: () => marks.at(-1),
    }[event.key];
    if (event.key === "Escape") this.leave();
    if (!to || at < 0) return;
    event.preventDefault();
    const mark = to();
    if (!mark) return;
    this.enter(mark);
    mark.focus();
  }
}

addEventListener("scroll", () => active?.place(), { passive: true, capture: true });

function addFigureTools(figure) {
  const drawings = [...figure.querySelectorAll("svg.plot")].map((svg) => [svg, numbersOf(svg)]).filter(([, one]) => one);
  const bars = [...figure.querySelectorAll(":is([data-subject], [data-subject] *)[data-value]")]; // a figure of boxes and text
  if (!drawings.length && !bars.length) return;
  for (const [svg, numbers] of drawings) new Marks(svg, numbers);
  figure.append(tools(button("Numbers as CSV", () => {
    const [name, columns, body] = drawings.length ? numbersOfDrawing(drawings) : numbersOfBars(figure, bars);
    const rows = body.filter(([subject]) => !hidden.has(subject)).map(([, ...cells]) => cells);
    save(toCsv([["subject", ...columns], ...rows]), fileName(name), `Saved as CSV: ${plural(rows.length, "row")}`);
  })));
}

function numbersOfDrawing(drawings) {
  const [svg, numbers] = drawings.find(([one]) => one.getClientRects().length) ?? drawings[0];
  const rows = numbers.rows.map(([subject, ...cells]) => [numbers.subjects[subject], named(numbers, subject), ...cells.slice(0, -1)]);
  return [svg.closest("[data-chart]")?.dataset.chart ?? svg.id, numbers.columns, rows];
}

function numbersOfBars(figure, bars) {
  const title = (figure.querySelector("figcaption, h3") ?? figure).textContent.split(".")[0].trim();
  const rows = bars.map((bar) => {
    const { subject } = bar.closest("[data-subject]").dataset;
    const shown = subject + (bar.closest(".emulated") ? " (emulated)" : "");
    return [subject, shown, bar.dataset.what ?? title, bar.dataset.value ? Number(bar.dataset.value) : ""];
  });
  return [figure.id || title, ["what", "value"], rows];
}
