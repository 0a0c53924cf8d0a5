// What was recorded after each epoch, and its curves: means over the seeds with a band, or single runs.

const FEW_EPOCHS = 15; // each of them has its tick
const MOST_NAMED = 16; // curves in the legend; of more, the one under the pointer says its name

const metricTitle = (name) => FIGURES[name]?.about ?? name;

// Those of the schema first, in its order, but the rate after the accuracies.
function fillMetrics(select, runs) {
  const recorded = unique(runs.flatMap((run) => Object.keys(run.curves)));
  const known = ["val_top1_percent", ...Object.keys(FIGURES)].filter((name) => recorded.includes(name));
  const others = recorded.filter((name) => !(name in FIGURES));
  fillSelect(select, unique([...known, ...others]).map((name) => [name, metricTitle(name)]));
}

function curveTrace(name, values, { hue, dash, customdata }) {
  return {
    mode: values.length === 1 ? "markers" : "lines", name: plain(name), x: values.map((_, i) => i + 1), y: values,
    line: { width: 1.75, color: hue, dash }, marker: { color: hue }, hovertemplate: "epoch %{x}: %{y:.5~g}",
    customdata: values.map(() => customdata),
  };
}

// By epoch, over the runs that have it.
function meanCurve(runs, metric) {
  const longest = Math.max(...runs.map((run) => run.curves[metric].length));
  const epochs = Array.from({ length: longest }, (_, i) =>
    runs.map((run) => run.curves[metric][i]).filter((value) => value !== null && value !== undefined));
  return epochs.map((values) => ({ mean: values.length ? mean(values) : null, spread: deviation(values) ?? 0 }));
}

// One standard deviation to both sides.
function bandTrace(curve, hue) {
  const whole = curve.map((epoch, i) => ({ ...epoch, x: i + 1 })).filter((epoch) => epoch.mean !== null);
  const back = [...whole].reverse();
  return {
    mode: "lines", fill: "toself", fillcolor: `${hue}26`, line: { width: 0 }, hoverinfo: "skip", showlegend: false,
    x: [...whole, ...back].map((epoch) => epoch.x),
    y: [...whole.map((epoch) => epoch.mean + epoch.spread), ...back.map((epoch) => epoch.mean - epoch.spread)],
  };
}

// `number`: of its model's configurations in the chart; each has a dash of its own.
function groupTraces(group, number, name, metric) {
  const runs = group.runs.filter((run) => run.curves[metric]);
  const curve = meanCurve(runs, metric);
  const [hue, dash] = [modelColour(group.model), DASHES[number % DASHES.length]];
  const line = curveTrace(name, curve.map((epoch) => epoch.mean), { hue, dash, customdata: group.number });
  return runs.length > 1 ? [bandTrace(curve, hue), line] : [line];
}

function drawCurves(id, traces, metric, logarithmic, why) {
  const named = traces.filter((trace) => trace.showlegend !== false);
  if (!named.length) return drawNothing(id, why);
  const longest = Math.max(...named.map((trace) => trace.y.length));
  return draw(id, traces, {
    showlegend: named.length <= MOST_NAMED, hovermode: named.length <= MOST_NAMED ? "x unified" : "closest",
    xaxis: axis("epoch", longest > FEW_EPOCHS ? {} : { dtick: 1 }),
    yaxis: axis(metricTitle(metric), { type: logarithmic ? "log" : "linear", tickformat: "~g" }),
  });
}

// Each run a curve of its own colour.
function drawRunCurves(id, runs, metric, logarithmic = false) {
  const recorded = runs.filter((run) => run.curves[metric]);
  const dash = (number) => DASHES[Math.floor(number / COLOURS) % DASHES.length];
  const traces = recorded.map((run, i) => curveTrace(run.name, run.curves[metric], { hue: colour(i), dash: dash(i) }));
  return drawCurves(id, traces, metric, logarithmic, runs.length ? "None of these runs has recorded this." : "No run is picked.");
}
