// The metrics recorded after each epoch, and their curves: means over the seeds with a band, or single runs.

const FEW_EPOCHS = 15; // up to this number each epoch has a tick
const MOST_NAMED = 16; // the most curves in a legend; with more, only the curve under the pointer shows its name

const metricTitle = (name) => FIGURES[name]?.about ?? name;

// Known figures come first, in the order of figures.py, with the held-out accuracy at the head.
function fillMetrics(select, runs) {
  const recorded = unique(runs.flatMap((run) => Object.keys(run.curves)));
  const known = ["val_top1_percent", ...Object.keys(FIGURES)].filter((name) => recorded.includes(name));
  fillSelect(select, unique([...known, ...recorded]).map((name) => [name, metricTitle(name)]));
}

const curveTrace = (name, values, color, dash, group) => ({
  mode: values.length === 1 ? "markers" : "lines", name: plain(name), x: values.map((_, i) => i + 1), y: values,
  line: { width: 1.75, color, dash }, marker: { color }, hovertemplate: "epoch %{x}: %{y:.5~g}",
  customdata: values.map(() => group.number),
});

// The mean over the runs that have an epoch, in a band of one standard deviation to both sides. `number`: the group's
// place among the groups of the same colour in the chart; each of them has its own dash.
function groupTraces(group, number, name, metric) {
  const runs = group.runs.map((run) => run.curves[metric]).filter(Boolean);
  const epochs = Array.from({ length: Math.max(...runs.map((values) => values.length)) }, (_, i) =>
    runs.map((values) => values[i]).filter((value) => value !== null && value !== undefined));
  const color = modelColour(group.model);
  const line = curveTrace(name, epochs.map(mean), color, DASHES[number % DASHES.length], group);
  if (runs.length === 1) return [line];
  const band = epochs.map((values, i) => ({ x: i + 1, middle: mean(values), spread: deviation(values) ?? 0 }))
    .filter(({ middle }) => middle !== null);
  const back = [...band].reverse();
  return [{
    mode: "lines", fill: "toself", fillcolor: `${color}26`, line: { width: 0 }, hoverinfo: "skip", showlegend: false,
    x: [...band, ...back].map(({ x }) => x),
    y: [...band.map(({ middle, spread }) => middle + spread), ...back.map(({ middle, spread }) => middle - spread)],
  }, line];
}

// Each run has a curve in its own colour.
const runTraces = (runs, metric) => runs.filter((run) => run.curves[metric]).map((run, i) =>
  curveTrace(run.name, run.curves[metric], colour(i), DASHES[Math.floor(i / COLOURS) % DASHES.length], groupOf(run)));

function drawCurves(id, traces, metric, why, logarithmic = false) {
  const named = traces.filter((trace) => trace.showlegend !== false);
  if (!named.length) return drawNothing(id, why);
  const longest = Math.max(...named.map((trace) => trace.y.length));
  draw(id, traces, {
    showlegend: named.length <= MOST_NAMED, hovermode: named.length <= MOST_NAMED ? "x unified" : "closest",
    xaxis: axis("epoch", longest > FEW_EPOCHS ? {} : { dtick: 1 }),
    yaxis: axis(metricTitle(metric), { type: logarithmic ? "log" : "linear", tickformat: "~g" }),
  });
}

const NOT_RECORDED = "None of these runs has recorded this.";
