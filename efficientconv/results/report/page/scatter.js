// Accuracy against cost: groups' means, single runs, the Pareto front of each series (comparable.py).

const LABELLED = 40; // groups; of more, only those on the front are named
const HOVER_KEYS = 8;

const chosenCost = () => COSTS[document.querySelector("#cost-axis input:checked").value];

function drawScatter() {
  const cost = chosenCost();
  const groups = groupsOf(visible, cost);
  const series = unique(groups.map((group) => group.first.series));
  drawPaper(cost);
  writeCostNote(groups, cost);
  if (!groups.length) return drawNothing("cost-chart", nothingToShow());
  const keys = differingKeys(groups);
  const traces = series.flatMap((name, number) => {
    const own = groups.filter((group) => group.first.series === name);
    return seriesTraces(own, { name, cost, keys, hue: colour(number), named: groups.length <= LABELLED });
  });
  draw("cost-chart", traces, {
    margin: NAMES_MARGIN, showlegend: series.length > 1, yaxis: axis("top-1 % on the test images"),
    xaxis: costAxis(costTitle(groups, cost), groups.flatMap((group) => group.runs.map(cost.of))),
  });
}

function nothingToShow() {
  return visible.some(isDone) ? "None of these runs has a measured time." : "None of these runs is finished.";
}

// Runs that can be compared.
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
      marker: {
        size: 9, line: { width: 1.75, color: hue }, color: groups.map((group) => (front.includes(group) ? hue : hollow)),
      },
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
    ...(cost === COSTS.time ? unique(runs.map(timing)) : []),
    ...shown,
  ];
  return lines.map(plain).join("<br>");
}

const timing = ({ time }) => `measured ${[time.how, time.place, `batches of ${time.batch}`].filter(Boolean).join(", ")}`;

function costTitle(groups, cost) {
  if (cost !== COSTS.time) return cost.axis;
  const hows = unique(groups.flatMap((group) => group.runs.map((run) => run.time.how)));
  return `${cost.axis}, measured ${hows.length === 1 ? hows[0] : "in several ways: each mark says in which"}`;
}

function writeCostNote(groups, cost) {
  const timings = cost === COSTS.time ? unique(groups.flatMap((group) => group.runs.map(timing))) : [];
  byId("cost-note").textContent = [
    "Each mark is the mean over the seeds of one configuration, its bar the standard deviation over seeds (none for one",
    "seed), small dots the single runs. Filled marks, joined by dots: the Pareto front, matched by nothing at the same cost",
    "or less among runs of one tier, on the same images, of one size and layout, with as many epochs.", cost === COSTS.macs ? "1 MAC is one multiply-accumulate, 2 FLOPs." : "",
    timings.length ? `Times: ${timings.join("; ")}.` : "",
  ].join(" ");
}

function startScatter() {
  const choices = Object.entries(COSTS).map(([value, cost]) => {
    const button = element("input", { type: "radio", name: "cost", value, checked: value === "macs" });
    return element("label", {}, button, cost.title);
  });
  byId("cost-axis").append(...choices);
  byId("cost").addEventListener("input", drawScatter);
  addSection("cost", drawScatter);
}
