// Any figure against any cost or setting: configurations' means, single runs, and the fronts of what can be compared.

const LABELLED = 40; // groups; of more, only those on the front are named
const HOVER_KEYS = 8;
const GIVEN = "by the address";

function drawScatter() {
  const all = visibleGroups();
  fillAxis(byId("cost-y"), all, { first: "top1_percent" });
  fillAxis(byId("cost-x"), all, { first: "macs", costsFirst: true });
  const [x, y] = [axisOf(byId("cost-x").value, all), axisOf(byId("cost-y").value, all)];
  const log = byId("cost-log");
  if (log.dataset.axis !== x.name && log.dataset.axis !== GIVEN) log.checked = x.logarithmic; // another axis: by its nature
  log.dataset.axis = x.name;
  const points = all.map((group) => ({ group, x: x.value(group), y: y.value(group) }));
  const given = points.filter((point) => point.x !== null && point.y !== null);
  drawPaper(x);
  writeCostNote(given, x, y);
  if (!given.length) return drawNothing("cost-chart", nothingToShow(x));
  const keys = differingKeys(all);
  const series = Map.groupBy(given, (point) => point.group.first.series);
  const fronts = [...series.values()].map((points) => paretoFront(points, x, y));
  nameMarks(given, new Set(fronts.flat()));
  const traces = [...series].flatMap(([name, points], number) =>
    seriesTraces(points, { name, front: fronts[number], symbol: SYMBOLS[number % SYMBOLS.length], x, y, keys }));
  draw("cost-chart", traces, {
    margin: NAMES_MARGIN, showlegend: series.size > 1, yaxis: axis(y.about),
    xaxis: xAxis(x, given),
  }).then(() => openOnClick("cost-chart"));
}

function xAxis(x, points) {
  const title = x.name === "ms_per_image" ? `${x.about}, ${measured(points)}` : x.about;
  const values = points.map((point) => point.x);
  if (byId("cost-log").checked && values.every((value) => value > 0)) return logAxis(title, values);
  return axis(title, { type: values.every((value) => typeof value === "number") ? "linear" : "category" });
}

function nothingToShow(x) {
  return visible.some(isDone) ? `None of these runs has ${x.title}.` : "None of these runs is finished.";
}

// Those that no other point matches at the same cost or less, from the cheapest on. None where x is no cost, y no quality.
function paretoFront(points, x, y) {
  const better = FIGURES[y.name]?.better;
  if (!x.isCost || !better || y.isCost) return [];
  const sign = better === "higher" ? 1 : -1;
  const front = [];
  for (const point of [...points].sort((one, other) => one.x - other.x || sign * (other.y - one.y))) {
    if (!front.length || sign * (point.y - front.at(-1).y) > 0) front.push(point);
  }
  return front;
}

// Those on a front before the others.
function nameMarks(points, onFront) {
  for (const point of points) {
    const named = points.length <= LABELLED || onFront.has(point);
    point.name = named ? modelTitle(point.group.model) : "";
  }
  points.sort((one, other) => onFront.has(other) - onFront.has(one));
  const names = placeNames(points, byId("cost-log").checked, byId("cost-chart"));
  points.forEach((point, i) => Object.assign(point, names[i]));
}

// Runs that can be compared: their front, single runs, means.
function seriesTraces(points, { name, front, symbol, x, y, keys }) {
  const hues = points.map(({ group }) => modelColour(group.model));
  const singles = points.filter(({ group }) => group.done.length > 1)
    .flatMap(({ group }) => group.done.map((run) => ({ run, group })));
  const common = { legendgroup: name, showlegend: false, hovertemplate: "%{hovertext}<extra></extra>" };
  return [
    {
      ...common, mode: "lines", x: front.map((point) => point.x), y: front.map((point) => point.y), hoverinfo: "skip",
      hovertemplate: null, line: { dash: "dot", width: 1.25, color: cssColour("muted") },
    },
    {
      ...common, mode: "markers", x: singles.map(({ run }) => x.of(run)), y: singles.map(({ run }) => y.of(run)),
      hovertext: singles.map(({ run }) => plain(run.name)), customdata: singles.map(({ group }) => group.number),
      marker: { size: 5, color: singles.map(({ group }) => modelColour(group.model)), opacity: 0.4 },
    },
    {
      ...common, mode: "markers+text", name: plain(name), showlegend: true, cliponaxis: false,
      x: points.map((point) => point.x), y: points.map((point) => point.y),
      error_y: {
        type: "data", array: points.map((point) => spreadOf(point, y)), thickness: 1, width: 4, color: cssColour("muted"),
      },
      text: points.map((point) => plain(point.text)), textposition: points.map((point) => point.place),
      customdata: points.map(({ group }) => group.number),
      hovertext: points.map((point) => pointHover(point, x, y, keys)),
      marker: {
        symbol, size: 9, line: { width: 1.75, color: hues },
        color: points.map((point, i) => (front.includes(point) ? hues[i] : cssColour("paper"))),
      },
    },
  ];
}

const spreadOf = ({ group }, y) => (y.name in FIGURES ? scaled(y.name, over(group, y.name).spread) : null);

function pointHover(point, x, y, keys) {
  const { group } = point;
  const spread = spreadOf(point, y);
  const told = keys.slice(0, HOVER_KEYS).map((key) => `${key}=${text(setting(group.first, key))}`);
  const lines = [
    `${modelTitle(group.model)} on ${group.first.data}: ${y.show(point.y)}${spread === null ? "" : ` ± ${y.show(spread)}`} `
      + `${y.title}, n = ${group.done.length}`,
    `${x.show(point.x)} ${x.title}`,
    ...(x.name === "ms_per_image" ? unique(group.done.map(timing)) : []),
    ...told,
  ];
  return lines.map(plain).join("<br>");
}

const timing = ({ time }) => `measured ${[time.how, time.place, `batches of ${time.batch}`].filter(Boolean).join(", ")}`;

function measured(points) {
  const hows = unique(points.flatMap(({ group }) => group.done.map((run) => run.time.how)));
  return hows.length === 1 ? `measured ${hows[0]}` : "measured in several ways: each mark says in which";
}

function writeCostNote(points, x, y) {
  const timings = x.name === "ms_per_image" ? unique(points.flatMap(({ group }) => group.done.map(timing))) : [];
  const front = paretoFront(points, x, y).length
    ? "Filled marks, joined by dots: the Pareto front, matched by nothing at the same cost or less among runs of one tier, on "
      + "the same images, of one size and layout, with as many epochs." : "";
  byId("cost-note").textContent = [
    "Each mark is the mean over the seeds of one configuration, its bar the standard deviation (none for one seed), small dots",
    "the single runs; colours are models. A click opens a configuration.", front,
    timings.length ? `Times: ${timings.join("; ")}.` : "",
  ].join(" ");
}

function startScatter() {
  const log = byId("cost-log");
  rememberControls("cost-x", "cost-y", "show-paper");
  remember("cost-log", () => (log.checked ? "on" : "off"), (value) => {
    log.checked = value === "on";
    log.dataset.axis = GIVEN;
  });
  byId("cost").addEventListener("input", drawScatter);
  addSection("cost", drawScatter);
}
