// Every run as a row; those that did not end well, with the reason.

const stateMark = (run) => element("span", { className: `state ${run.state}` }, run.state);

const RUN_COLUMNS = [
  { title: "run", value: (run) => run.name, show: (run) => element("span", { className: "mono name" }, run.name) },
  { title: "model", value: (run) => run.model, show: (run) => modelTitle(run.model) },
  { title: "tier", value: (run) => run.tier },
  { title: "data", value: (run) => run.data },
  { title: "seed", value: (run) => run.seed },
  { title: "state", value: (run) => run.state, show: stateMark },
  { title: "epochs", value: (run) => run.epochs },
  { title: "top-1 %", value: (run) => run.top1, show: (run) => fixed(run.top1, 2) },
  { title: "top-5 %", value: (run) => run.top5, show: (run) => fixed(run.top5, 2) },
  { title: "M MACs", value: (run) => run.macs, show: (run) => fixed(run.macs && run.macs / 1e6, 2) },
  { title: "M parameters", value: (run) => run.params, show: (run) => fixed(run.params && run.params / 1e6, 3) },
  { title: "ms per image", value: (run) => run.time?.ms ?? null, show: (run) => fixed(run.time?.ms, 3) },
];

const REASON_COLUMNS = [
  ...RUN_COLUMNS.filter((column) => ["run", "state", "epochs"].includes(column.title)),
  { title: "reason", value: (run) => run.reason ?? "", show: (run) => run.reason ?? "none was noted" },
];

function drawRuns() {
  byId("run-table").replaceChildren(sortableTable(RUN_COLUMNS, visible));
}

function drawUnfinished() {
  const unfinished = visible.filter((run) => run.state !== "done");
  byId("unfinished-table").replaceChildren(unfinished.length
    ? element("div", { className: "scroll" }, sortableTable(REASON_COLUMNS, unfinished))
    : element("p", { className: "note" }, "All of the runs shown are done."));
}
