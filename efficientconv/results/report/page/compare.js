// Two runs side by side: what they were asked, what they gave, what they ran on, their curves over each other.

const PART_TITLES = { summary: "Result", config: "Configuration", environment: "Environment" };
const sides = [byId("compare-a"), byId("compare-b")];
const runId = (run) => `${run.tier}/${run.name}`;

const compared = () => sides.map((select) => visible.find((run) => runId(run) === select.value)).filter(Boolean);

function drawCompare() {
  const named = visible.map((run) => [runId(run), `${run.name} (${run.tier}, ${run.state})`]);
  const other = visible.find((run) => run.group !== visible[0].group) ?? visible.at(-1);
  fillSelect(sides[0], named);
  fillSelect(sides[1], named, other && runId(other));
  drawPair();
}

function drawPair() {
  const pair = compared();
  fillMetrics(byId("compare-metric"), pair);
  drawRunCurves("compare-chart", pair, byId("compare-metric").value);
  const parts = pair.length ? Object.keys(PART_TITLES) : [];
  byId("compare-tables").replaceChildren(...parts.flatMap((part) => partTable(part, pair)));
}

function partTable(part, pair) {
  const [one, other] = pair.map((run) => settings(run, part));
  const keys = unique([...one.keys(), ...other.keys()]);
  const differ = keys.filter((key) => text(one.get(key)) !== text(other.get(key)));
  const rowKeys = byId("compare-all").checked ? keys : differ;
  const count = element("small", {}, `${differ.length} of ${keys.length} differ`);
  const head = element("h3", {}, PART_TITLES[part], " ", count);
  if (!rowKeys.length) return [head];
  const rows = rowKeys.map((key) => sideRow(key, one.get(key), other.get(key), differ.includes(key)));
  const named = { className: "sides", id: `compare-${part}` };
  return [head, element("table", named, sideHead(pair), element("tbody", {}, ...rows))];
}

function sideHead(pair) {
  const cells = pair.map((run, i) => {
    const letter = element("b", { className: ["first", "second"][i] }, "AB"[i]);
    return element("th", { scope: "col" }, letter, " ", element("span", { className: "mono" }, run.name));
  });
  return element("thead", {}, element("tr", {}, element("td", {}), ...cells));
}

function sideRow(key, one, other, differs) {
  const className = differs ? "mono" : "mono same";
  const cells = [one, other].map((value) => element("td", { className, title: text(value) }, sevenDigits(value)));
  return element("tr", {}, element("th", { scope: "row", className: "mono" }, key), ...cells);
}

// In full it is the cell's title.
const sevenDigits = (value) => (typeof value === "number" ? String(Number(value.toPrecision(7))) : text(value));

function startCompare() {
  rememberControls("compare-a", "compare-b", "compare-metric", "compare-all");
  for (const control of [...sides, byId("compare-metric"), byId("compare-all")]) control.addEventListener("input", drawPair);
  addSection("compare", drawCompare);
}
