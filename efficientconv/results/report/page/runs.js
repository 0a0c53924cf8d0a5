// Every run as a row; those that did not end well, with the reason.

const MOST_ROWS = 200; // at first
const stateMark = (run) => element("span", { className: `state ${run.state}` }, run.state);
const groupOf = (run) => GROUPS.find((group) => group.id === run.group);

const RUN_COLUMNS = [
  { title: "run", value: (run) => run.name, show: (run) => opener(run.name, groupOf(run)) },
  { title: "model", value: (run) => run.model, show: (run) => modelTitle(run.model) },
  { title: "tier", value: (run) => run.tier },
  { title: "data", value: (run) => run.data },
  { title: "seed", value: (run) => run.seed },
  { title: "state", value: (run) => run.state, show: stateMark },
  { title: "epochs", value: (run) => run.epochs },
  ...["top1_percent", "top5_percent", "macs", "params", "ms_per_image"].map((name) => ({
    title: FIGURES[name].title, about: FIGURES[name].about, value: (run) => scaled(name, figure(run, name)),
    show: (run) => shown(name, figure(run, name)),
  })),
];

const REASON_COLUMNS = [
  ...RUN_COLUMNS.filter((column) => ["run", "state", "epochs"].includes(column.title)),
  { title: "reason", value: (run) => run.reason ?? "", show: (run) => run.reason ?? "none was noted" },
];

function drawRuns() {
  const most = byId("all-runs").dataset.all ? Infinity : MOST_ROWS;
  takeaways.set("runs", [RUN_COLUMNS, visible]);
  byId("all-runs").hidden = visible.length <= most;
  byId("all-runs").textContent = `show all ${visible.length}`;
  byId("run-table").replaceChildren(sortableTable(RUN_COLUMNS, visible, { most, open: (run) => openDetails(groupOf(run)) }));
}

function drawUnfinished() {
  const unfinished = visible.filter((run) => !isDone(run));
  const frame = { className: "scroll", tabIndex: 0, role: "region", "aria-label": "Table of unfinished runs" };
  byId("unfinished-table").replaceChildren(unfinished.length
    ? element("div", frame, sortableTable(REASON_COLUMNS, unfinished, { open: (run) => openDetails(groupOf(run)) }))
    : element("p", { className: "note" }, "All of the runs shown are done."));
}

function startRuns() {
  byId("all-runs").addEventListener("click", () => {
    byId("all-runs").dataset.all = "yes";
    drawRuns();
  });
  addSection("runs", drawRuns);
  addSection("unfinished", drawUnfinished);
}
