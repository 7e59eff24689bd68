
// ---- The page of all runs: which of them are shown.

function addSearch(form) {
  const rows = [...main.querySelectorAll(".runs tbody tr")];
  const sections = [...main.querySelectorAll("section[data-scenario]")];
  const charts = [...main.querySelectorAll(".small li")];
  if (rows.length < 2) return;
  const values = (name) => [...new Set(rows.map((row) => row.dataset[name]).filter(Boolean))].sort(compare);
  const labels = [...new Set([...main.querySelectorAll(".runs [data-subject]")].map((one) => one.dataset.subject))];
  const choice = (name, all) => make("select", { name },
    make("option", { value: "" }, `all ${name}s`), ...all.map((one) => make("option", { value: one }, one)));
  const field = (text, control) => make("label", {}, text, control);
  const words = make("input", { type: "search", name: "words" });
  const scenario = choice("scenario", values("scenario"));
  const experiment = choice("experiment", values("experiment"));
  const subject = choice("subject", labels.sort(compare));
  const from = make("input", { type: "date", name: "from" });
  const until = make("input", { type: "date", name: "until" });
  const told = make("output", { role: "status" });
  const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const subjectsOf = new Map(rows.map((row) =>
    [row, new Set([...row.querySelectorAll("[data-subject]")].map((one) => one.dataset.subject))]));

  function apply() {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const { scenario: ofScenario, experiment: ofExperiment, date = "" } = row.dataset;
      const fits = wanted.every((word) => texts.get(row).includes(word))
        && (!scenario.value || ofScenario === scenario.value)
        && (!experiment.value || ofExperiment === experiment.value)
        && (!subject.value || subjectsOf.get(row).has(subject.value))
        && (!from.value || date >= from.value) && (!until.value || (date && date <= until.value));
      row.classList.toggle("filtered", !fits);
      shown += fits;
    }
    for (const one of charts) one.classList.toggle("filtered", !!subject.value && one.dataset.subject !== subject.value);
    for (const one of sections) {
      const fits = (!scenario.value || one.dataset.scenario === scenario.value)
        && (!experiment.value || one.dataset.experiment === experiment.value)
        && one.querySelector(".small li:not(.filtered)");
      one.classList.toggle("filtered", !fits);
    }
    told.textContent = shown === rows.length ? plural(shown, "run") : `${shown} of ${plural(rows.length, "run")}`;
  }

  form.append(field("search", words), field("scenario", scenario), field("experiment", experiment),
    field("subject", subject), field("from", from), field("until", until), told);
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  apply();
}

const search = document.querySelector("#search");
if (search) addSearch(search);
