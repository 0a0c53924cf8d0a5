// Accuracy against cost: groups' means, single runs, the Pareto front; the paper's points beside them.

const LABELLED = 40; // groups; of more, only those on the front are named
const HOVER_KEYS = 8;
const CORNERS = ["top right", "bottom right", "top left", "bottom left"];
const NAMES_MARGIN = { l: 56, r: 40, t: 12, b: 48 }; // pixels; the outermost names reach into it
const CROWDED = 0.07; // of an axis: names of marks nearer to each other than this go to different corners

const chosenCost = () => COSTS[document.querySelector("#cost-axis input:checked").value];
const seriesOf = (run) => `${run.tier}, ${run.data}`;

function drawScatter() {
  const cost = chosenCost();
  const groups = groupsOf(visible, cost);
  const series = unique(groups.map((group) => seriesOf(group.first)));
  drawPaper(cost);
  writeCostNote(groups, cost);
  if (!groups.length) return drawNothing("cost-chart", nothingToShow());
  const keys = differingKeys(groups);
  const traces = series.flatMap((name, number) => {
    const own = groups.filter((group) => seriesOf(group.first) === name);
    return seriesTraces(own, { name, cost, keys, hue: colour(number), named: groups.length <= LABELLED });
  });
  draw("cost-chart", traces, {
    margin: NAMES_MARGIN,
    showlegend: series.length > 1, xaxis: costAxis(cost.axis, groups.map((group) => group.cost)), yaxis: axis("top-1 % on the test images"),
  });
}

function nothingToShow() {
  return visible.some(isDone) ? "None of these runs has a measured time." : "None of these runs is finished.";
}

// One tier and data set: its front is its own.
function seriesTraces(groups, { name, cost, keys, hue, named }) {
  const front = paretoFront(groups);
  const hollow = cssColour("paper");
  const singles = groups.filter((group) => group.runs.length > 1).flatMap((group) => group.runs);
  const common = { legendgroup: name, showlegend: false, hovertemplate: "%{hovertext}<extra></extra>" };
  return [
    {
      ...common, mode: "lines", x: front.map((group) => group.cost), y: front.map((group) => group.top1), hoverinfo: "skip",
      hovertemplate: null, line: { dash: "dot", width: 1.25, color: hue },
    },
    {
      ...common, mode: "markers", x: singles.map(cost.of), y: singles.map((run) => run.top1),
      hovertext: singles.map((run) => plain(run.name)), marker: { size: 5, color: hue, opacity: 0.35 },
    },
    {
      ...common, mode: "markers+text", name: plain(name), showlegend: true, cliponaxis: false,
      x: groups.map((group) => group.cost), y: groups.map((group) => group.top1),
      error_y: { type: "data", array: groups.map((group) => group.spread), thickness: 1, width: 4, color: hue },
      text: groups.map((group) => (named || front.includes(group) ? plain(modelTitle(group.first.model)) : "")),
      textposition: labelCorners(groups), hovertext: groups.map((group) => groupHover(group, cost, keys)),
      marker: { size: 9, line: { width: 1.75, color: hue }, color: groups.map((group) => (front.includes(group) ? hue : hollow)) },
    },
  ];
}

function groupHover(group, cost, keys) {
  const { first, runs } = group;
  const spread = group.spread === null ? "" : ` ± ${fixed(group.spread, 2)}`;
  const shown = keys.slice(0, HOVER_KEYS).map((i) => `${DATA.keys.config[i]}=${text(DATA.values[first.config[i]])}`);
  const lines = [
    `${modelTitle(first.model)} on ${first.data}: ${fixed(group.top1, 2)}${spread} % top-1, n = ${runs.length}`,
    `${significant(group.cost)} ${cost.unit}`,
    ...(cost === COSTS.time ? unique(runs.map((run) => `${run.time.how}, batches of ${run.time.batch}`)) : []),
    ...shown,
  ];
  return lines.map(plain).join("<br>");
}

// Points have a `cost` and a `top1`.
function labelCorners(points) {
  const range = (values) => Math.max(...values) - Math.min(...values) || 1;
  const across = range(points.map((point) => Math.log(point.cost)));
  const up = range(points.map((point) => point.top1));
  const near = (one, other) => Math.abs(Math.log(one.cost / other.cost)) < CROWDED * across
    && Math.abs(one.top1 - other.top1) < CROWDED * up;
  return points.map((point, i) => CORNERS[points.slice(0, i).filter((earlier) => near(earlier, point)).length % CORNERS.length]);
}

function drawPaper(cost) {
  const wanted = byId("show-paper").checked;
  byId("paper-panel").hidden = !wanted;
  if (!wanted) return;
  if (cost === COSTS.time) return drawNothing("paper-chart", "The paper’s times are not known here.");
  const points = DATA.paper.map((point) => ({ ...point, cost: cost.of(point) }));
  const hover = points.map((point) => `${modelTitle(point.model)}: ${point.top1} % (${point.mark}), table ${point.tables.join(", ")}`);
  draw("paper-chart", [{
    mode: "markers+text", x: points.map((point) => point.cost), y: points.map((point) => point.top1), cliponaxis: false,
    text: points.map((point) => plain(modelTitle(point.model))), textposition: labelCorners(points), textfont: { color: cssColour("muted") },
    hovertext: hover.map(plain), hovertemplate: "%{hovertext}<extra></extra>",
    marker: { symbol: "diamond-open", size: 8, color: cssColour("muted") },
  }], {
    margin: NAMES_MARGIN, showlegend: false, xaxis: costAxis(cost.axis, points.map((point) => point.cost)), yaxis: axis("100 − top-1 error % in the paper"),
  });
}

// Logarithmic: 1, 2 and 5 of each power of ten, or even steps where all lies within a power.
function costAxis(title, costs) {
  const [low, high] = [Math.min(...costs), Math.max(...costs)];
  const step = 10 ** Math.floor(Math.log10(high)) / 2;
  const room = 1.15; // for the names of the outer marks
  const outer = [low / room, high * room ** 2].map(Math.log10);
  return axis(title, { range: outer, type: "log", tickformat: "~g", dtick: high > 10 * low ? "D2" : `L${step}` });
}

function writeCostNote(groups, cost) {
  const hows = unique(groups.flatMap((group) => group.runs.map((run) => run.time?.how)));
  byId("cost-note").textContent = [
    "Each mark is the mean over the seeds of one configuration, its bar the standard deviation over seeds (none for one seed),",
    "small dots the single runs. Filled marks, joined by dots: the Pareto front, matched by nothing at the same cost or less.",
    cost === COSTS.macs ? "1 MAC is one multiply-accumulate, 2 FLOPs." : "",
    cost === COSTS.time && hows.length ? `Measured ${hows.join("; or ")}: which, the point says.` : "",
  ].join(" ");
}

function startScatter() {
  const choices = Object.entries(COSTS).map(([value, cost]) =>
    element("label", {}, element("input", { type: "radio", name: "cost", value, checked: value === "macs" }), cost.title));
  byId("cost-axis").append(...choices);
  byId("cost").addEventListener("input", drawScatter);
  addSection("cost", drawScatter);
}
