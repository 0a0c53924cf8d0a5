// One configuration, opened by a click on its mark, row or curve: its runs, its settings, its curves.

let opened = null;

const DETAIL_COLUMNS = RUN_COLUMNS.filter((column) => !["model", "tier", "data", "params"].includes(column.title))
  .map((column) => (column.title === "run" ? { ...column, show: (run) => element("span", { className: "mono" }, run.name) } : column));

function openDetails({ number }) {
  opened = GROUPS[number];
  const keys = differingKeys(visibleGroups());
  const { model, first } = opened;
  byId("details-title").textContent = `Model ${modelTitle(model)} on ${first.data}, ${first.tier}`;
  const told = keys.map((key) => [key, setting(first, key)]);
  const figures = ["top1_percent", "macs", "params", "ms_per_image"].filter((name) => over(opened, name).mean !== null);
  const pairs = [...figures.map((name) => [FIGURES[name].title, shownOver(opened, name)]), ...told];
  const facts = pairs.map(([title, value]) => element("div", {}, element("dt", {}, title), element("dd", {}, text(value))));
  const frame = { className: "scroll", tabIndex: 0, role: "region", "aria-label": "Runs of this configuration" };
  byId("details-body").replaceChildren(
    element("dl", { className: "facts" }, ...facts), element("div", frame, sortableTable(DETAIL_COLUMNS, opened.runs)));
  byId("details-settings").replaceChildren(settingsTable(first));
  fillMetrics(byId("details-metric"), opened.runs);
  if (!byId("details").open) byId("details").showModal();
  drawDetails();
  writeAddress();
}

function settingsTable(run) {
  const rows = [...settings(run, "config")].filter(([key]) => key !== "seed").map(([key, value]) =>
    element("tr", {}, element("th", { scope: "row", className: "mono" }, key), element("td", { className: "mono long" }, text(value))));
  return element("table", {}, element("tbody", {}, ...rows));
}

function drawDetails() {
  drawRunCurves("details-chart", opened.runs, byId("details-metric").value);
}

function startDetails() {
  remember("open", () => opened?.id ?? "", (id) => {
    const group = GROUPS.find((one) => one.id === id);
    if (group) queueMicrotask(() => openDetails(group));
  });
  byId("details-metric").addEventListener("input", drawDetails);
  byId("details-pick").addEventListener("click", () => {
    picked.add(opened.id);
    byId("details").close();
    redrawSections();
  });
  byId("details").addEventListener("close", () => {
    opened = null;
    writeAddress();
  });
}
