// Two runs side by side: their results, configurations, environments and curves.

const PART_TITLES = { summary: "Result", config: "Configuration", environment: "Environment" };
const sides = [byId("compare-a"), byId("compare-b")];
const runId = (run) => `${run.tier}/${run.name}`;

function drawCompare() {
  const named = visible.map((run) => [runId(run), `${run.name} (${run.tier}, ${run.state})`]);
  const other = visible.find((run) => run.group !== visible[0].group) ?? visible.at(-1);
  fillSelect(sides[0], named);
  fillSelect(sides[1], named, other && runId(other));
  drawPair();
}

function drawPair() {
  const pair = sides.map((select) => visible.find((run) => runId(run) === select.value)).filter(Boolean);
  const metric = byId("compare-metric");
  fillMetrics(metric, pair);
  drawCurves("compare-chart", runTraces(pair, metric.value), metric.value, pair.length ? NOT_RECORDED : "No run is picked.");
  const parts = pair.length ? Object.keys(PART_TITLES) : [];
  byId("compare-tables").replaceChildren(...parts.flatMap((part) => partTable(part, pair)));
}

function partTable(part, pair) {
  const [one, other] = pair.map((run) => settings(run, part));
  const keys = unique([...one.keys(), ...other.keys()]);
  const differ = keys.filter((key) => told(key, one.get(key)) !== told(key, other.get(key)));
  const shownKeys = byId("compare-all").checked ? keys : differ;
  const head = element("h3", {}, PART_TITLES[part], " ", element("small", {}, `${differ.length} of ${keys.length} differ`));
  const named = { title: part === "summary" ? "figure" : "setting", value: (key) => FIGURES[key]?.title ?? key };
  const columns = [named, ...[one, other].map((values, i) => ({
    title: `${"AB"[i]}: ${pair[i].name}`, value: (key) => values.get(key),
    show: (key) => element("code", {}, told(key, values.get(key))),
  }))];
  const tables = shownKeys.length ? [sortableTable(`${PART_TITLES[part]} of both runs`, columns, shownKeys)] : [];
  return [head, element("div", { id: `compare-${part}` }, ...tables)];
}

// Figures are told as in all other tables.
const told = (key, value) => (key in FIGURES && typeof value === "number" ? shown(key, value) : text(value));

addSection("compare", drawCompare, drawPair);
