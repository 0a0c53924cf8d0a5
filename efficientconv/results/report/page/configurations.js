// The tables of configurations, of runs, and of failed and unfinished runs.

const MOST_KEYS = 6; // the most columns of settings
const MOST_ROWS = 200; // the most rows of runs before "show all"

// The column of a figure. `of` takes the figure's stored number out of a row.
const figureColumn = (name, of, show = (row) => shown(name, of(row))) =>
  ({ title: FIGURES[name].title, about: FIGURES[name].about, value: (row) => scaled(name, of(row)), show });

const groupFigure = (name) => figureColumn(name, (group) => ofGroup(group, name), (group) => shownOver(group, name));

const keyColumn = (key) => ({
  title: shortKey(key), about: key, value: ({ first }) => settingOf(first, key),
  show: ({ first }) => shortValue(setting(first, key)),
});

// The figures of `names` that some row has. The accuracy on held-out images counts only for a row without accuracy on test
// images. `of` takes a figure out of a row.
const had = (names, rows, of) => names.filter((name) => rows.some((row) =>
  of(row, name) !== null && (name !== "best_val_top1_percent" || of(row, "top1_percent") === null)));

const ofGroup = (group, name) => over(group, name).mean;
const SHOWN = ["top1_percent", "best_val_top1_percent", "macs", "ms_per_image", "limit_share"];

const groupColumns = (keys, groups) => [
  { title: "model", value: (group) => modelTitle(group.model), show: (group) => opener(modelTitle(group.model), group) },
  ...keys.map(keyColumn),
  {
    title: "n", about: "finished runs", value: ({ done }) => done.length,
    show: ({ done, runs }) => (done.length < runs.length ? `${done.length} of ${runs.length}` : String(done.length)),
  },
  ...had(SHOWN, groups, ofGroup).map(groupFigure),
];

// A button in the row: the keyboard reaches a button, but not a click on a row.
function opener(title, group) {
  const button = element("button", { type: "button", className: "opener" }, title);
  button.addEventListener("click", (event) => {
    event.stopPropagation();
    openDetails(group);
  });
  return button;
}

// In the CSV file the spread is a column of its own.
const SPREAD = {
  title: `sd of ${FIGURES.top1_percent.title}`, value: (group) => scaled("top1_percent", over(group, "top1_percent").spread),
};

addSection("configurations", () => {
  const groups = visibleGroups();
  const columns = groupColumns(differingKeys(groups).slice(0, MOST_KEYS), groups);
  const spread = groups.some((group) => SPREAD.value(group) !== null) ? [SPREAD] : [];
  takeaways.set("configurations", [[...columns, ...spread], groups]);
  const table = sortableTable("Table of configurations", columns, groups, { open: openDetails });
  byId("configuration-table").replaceChildren(table);
});

const RUN_COLUMNS = [
  { title: "run", value: (run) => run.name, show: (run) => opener(run.name, groupOf(run)) },
  { title: "model", value: (run) => run.model, show: (run) => modelTitle(run.model) },
  ...["tier", "data", "seed"].map((key) => ({ title: key, value: (run) => run[key] })),
  {
    title: "state", value: ({ state }) => state,
    show: ({ state }) => element("span", { className: `state ${state}` }, state),
  },
  { title: "epochs", value: (run) => run.epochs },
];
const OF_RUN = [
  "top1_percent", "top5_percent", "best_val_top1_percent", "macs", "params", "ms_per_image", "limit_share",
];
const runFigures = (runs) => had(OF_RUN, runs, figure).map((name) => figureColumn(name, (run) => figure(run, name)));

const runTable = (label, columns, runs, most) =>
  sortableTable(label, columns, runs, { most, open: (run) => openDetails(groupOf(run)) });

function drawRuns() {
  const most = byId("all-runs").dataset.all ? Infinity : MOST_ROWS;
  const columns = [...RUN_COLUMNS, ...runFigures(visible)];
  takeaways.set("runs", [columns, visible]);
  byId("all-runs").hidden = visible.length <= most;
  byId("all-runs").textContent = `show all ${visible.length}`;
  byId("run-table").replaceChildren(runTable("Table of runs", columns, visible, most));
}

byId("all-runs").addEventListener("click", () => {
  byId("all-runs").dataset.all = "yes";
  drawRuns();
});
addSection("runs", drawRuns);

const REASON = { title: "reason", value: (run) => run.reason ?? "none was noted" };

addSection("unfinished", () => {
  const unfinished = visible.filter((run) => !isDone(run));
  const columns = [...RUN_COLUMNS.filter(({ title }) => ["run", "state", "epochs"].includes(title)), REASON];
  byId("unfinished-table").replaceChildren(unfinished.length
    ? runTable("Table of unfinished runs", columns, unfinished) : note("All of the runs shown are done."));
});
