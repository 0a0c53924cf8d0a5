// One configuration, opened by a click on its mark, row or curve: its runs, its settings, its curves.

let opened = null;

const DETAIL_COLUMNS = [
  { title: "run", value: (run) => run.name, show: (run) => element("code", {}, run.name) },
  ...RUN_COLUMNS.slice(1).filter(({ title }) => !["model", "tier", "data"].includes(title)),
];
const SETTING_COLUMNS = ["setting", "value"].map((title, i) => ({ title, value: (pair) => text(pair[i]) }));

function openDetails({ number }) {
  opened = GROUPS[number];
  const { model, first, runs } = opened;
  byId("details-title").textContent = `Model ${modelTitle(model)} on ${first.data}, ${first.tier}`;
  const figures = had(OF_RUN.filter((name) => name !== "top5_percent"), [opened], ofGroup);
  const facts = [
    ...figures.map((name) => [FIGURES[name].title, shownOver(opened, name)]),
    ...differingKeys(visibleGroups()).map((key) => [key, text(setting(first, key))]),
  ];
  byId("details-body").replaceChildren(
    element("dl", { className: "facts" }, ...facts.map(([title, value]) =>
      element("div", {}, element("dt", {}, title), element("dd", {}, value)))),
    sortableTable("Runs of this configuration", [...DETAIL_COLUMNS, ...runFigures(runs)], runs));
  const asked = [...settings(first, "config")].filter(([key]) => key !== "seed");
  byId("details-settings").replaceChildren(sortableTable("Settings", SETTING_COLUMNS, asked));
  fillMetrics(byId("details-metric"), runs);
  if (!byId("details").open) byId("details").showModal();
  drawDetails();
  writeAddress();
}

function drawDetails() {
  const metric = byId("details-metric").value;
  drawCurves("details-chart", runTraces(opened.runs, metric), metric, NOT_RECORDED);
}

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
