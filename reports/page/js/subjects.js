
// ---- Subjects: which of them tables and figures show.
//
// What belongs to a subject says so: data-subject, and data-against where two are compared. In a table the head of a row
// that is the name of a subject is enough. The emulated class as one is hidden by the style sheet, without this script.

const subjects = [...new Set([...main.querySelectorAll("[data-subject]")].map((one) => one.dataset.subject))];
const hidden = new Set();

for (const row of main.querySelectorAll("tbody tr:not([data-subject])")) {
  const head = row.cells[0]?.cloneNode(true);
  for (const tag of head?.querySelectorAll(".tag") ?? []) tag.remove();
  const name = head?.textContent.trim();
  if (subjects.includes(name)) row.dataset.subject = name;
}

function applyHidden() {
  for (const one of main.querySelectorAll(":is(tr, svg *, .share, .bars li)[data-subject]")) {
    one.classList.toggle("filtered", hidden.has(one.dataset.subject) || hidden.has(one.dataset.against));
  }
  const shown = subjects.length - hidden.size;
  filterState.textContent = hidden.size ? `${shown} of ${subjects.length}` : `all ${subjects.length}`;
  printed.textContent = hidden.size ? `Left out of tables and figures here: ${[...hidden].join(", ")}.` : "";
}

const filterState = make("span");
const printed = make("p", { class: "left-out" });

function addFilter(place) {
  if (subjects.length < 2) return;
  const boxes = subjects.map((label) => {
    const box = make("input", { type: "checkbox" });
    box.checked = true;
    box.addEventListener("change", () => {
      if (box.checked) hidden.delete(label);
      else hidden.add(label);
      applyHidden();
    });
    return box;
  });
  const all = button("Show all", () => {
    hidden.clear();
    for (const box of boxes) box.checked = true;
    applyHidden();
  });
  const choices = subjects.map((label, index) => make("label", {}, boxes[index], make("span", {}, label)));
  const panel = make("details", { class: "filter" },
    make("summary", {}, "Subjects: ", filterState),
    make("fieldset", {}, make("legend", {}, "Show in tables and figures"), ...choices, all));
  panel.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !panel.open) return;
    panel.open = false;
    panel.firstChild.focus();
  });
  document.addEventListener("pointerdown", (event) => { panel.open &&= panel.contains(event.target); });
  place.prepend(panel);
  place.after(printed);
  applyHidden();
}
