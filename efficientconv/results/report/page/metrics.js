// What was recorded after each epoch, and its curves.

const METRICS = {
  val_top1_percent: "top-1 % on the held-out images", val_top5_percent: "top-5 % on the held-out images",
  val_loss: "loss on the held-out images", train_loss: "training loss", train_top1_percent: "top-1 % in training",
  train_top5_percent: "top-5 % in training", lr: "learning rate", images_per_s: "training images a second",
  train_seconds: "seconds of training", data_wait_percent: "% of the time waiting for data",
};
const DASHES = ["solid", "dash", "dot", "dashdot"]; // once all colours are taken

const FEW_EPOCHS = 15; // each of them has its tick
const MOST_NAMED = 16; // curves in the legend; of more, the one under the pointer says its name

const metricTitle = (name) => METRICS[name] ?? name;

// The usual ones first.
function metricsOf(runs) {
  const recorded = unique(runs.flatMap((run) => Object.keys(run.curves)));
  const known = Object.keys(METRICS).filter((name) => recorded.includes(name));
  return [...known, ...recorded.filter((name) => !(name in METRICS))];
}

function fillMetrics(select, runs) {
  fillSelect(select, metricsOf(runs).map((name) => [name, metricTitle(name)]));
}

function curveTrace(run, metric, number) {
  const values = run.curves[metric] ?? [];
  return {
    mode: values.length === 1 ? "markers" : "lines", name: plain(run.name), x: values.map((_, i) => i + 1), y: values,
    line: { width: 1.75, color: colour(number), dash: DASHES[Math.floor(number / COLOURS) % DASHES.length] },
    marker: { color: colour(number) }, hovertemplate: "epoch %{x}: %{y:.5~g}",
  };
}

function drawCurves(id, runs, metric, logarithmic) {
  const drawn = runs.filter((run) => run.curves[metric]);
  if (!drawn.length) return drawNothing(id, runs.length ? "None of these runs has recorded this." : "No run is picked.");
  const longest = Math.max(...drawn.map((run) => run.curves[metric].length));
  draw(id, drawn.map((run, number) => curveTrace(run, metric, number)), {
    showlegend: drawn.length <= MOST_NAMED, hovermode: drawn.length <= MOST_NAMED ? "x unified" : "closest",
    xaxis: axis("epoch", longest > FEW_EPOCHS ? {} : { dtick: 1 }),
    yaxis: axis(metricTitle(metric), { type: logarithmic ? "log" : "linear", tickformat: "~g" }),
  });
}
