// The chart of any figure against any cost or setting: means of configurations, single runs, and fronts of comparable runs.

const LABELLED = 40; // groups; with more, only the groups on a front are named
const HOVER_KEYS = 8;
const FRONT = "Filled marks, joined by dots, are the Pareto front: no comparable run is as good at the same cost or less. "
  + "Comparable runs have the same tier, images, image size, layout and number of epochs.";

function drawScatter() {
  const all = visibleGroups();
  const [firstX, firstY] = firstAxes(all);
  fillAxis(byId("cost-y"), all, firstY);
  fillAxis(byId("cost-x"), all, firstX);
  const [x, y] = [axisOf(byId("cost-x").value, all), axisOf(byId("cost-y").value, all)];
  const log = byId("cost-log");
  if (log.dataset.axis !== x.name && !log.dataset.wanted) log.checked = x.logarithmic; // the default of a new axis
  delete log.dataset.wanted;
  log.dataset.axis = x.name;
  const points = all.map((group) => pointOf(group, x, y)).filter((point) => point.x !== null && point.y !== null);
  drawPaper(x);
  const series = [...Map.groupBy(points, (point) => point.group.first.series)];
  const fronts = series.map(([, own]) => paretoFront(own, x, y));
  writeCostNote(points, x, fronts.flat());
  const why = visible.some(isTrained) ? `None of these runs has ${x.title}.` : "None of these runs is finished.";
  if (!points.length) return drawNothing("cost-chart", why);
  nameMarks(points, fronts.flat());
  const keys = differingKeys(all);
  const traces = series.flatMap(([name, own], i) => seriesTraces(own, { name, front: fronts[i], number: i, x, y, keys }));
  draw("cost-chart", traces, {
    margin: NAMES_MARGIN, showlegend: series.length > 1, yaxis: axis(y.about), xaxis: xAxis(x, points),
  });
}

const pointOf = (group, x, y) => ({
  group, x: x.value(group), y: y.value(group), hue: modelColour(group.model),
  spread: y.name in FIGURES ? scaled(y.name, over(group, y.name).spread) : null,
});

function xAxis(x, points) {
  const timed = timedRuns(points, x);
  const hows = unique(timed.map((run) => run.time.how));
  const how = hows.length > 1 ? "in several ways: each mark says in which" : hows[0];
  const title = how ? `${x.about}, measured ${how}` : x.about;
  const values = points.map((point) => point.x);
  if (byId("cost-log").checked && values.every((value) => value > 0)) return logAxis(title, values);
  return axis(title, { type: values.every((value) => typeof value === "number") ? "linear" : "category" });
}

// The points that no other point matches at the same cost or less, by cost. Empty if x is not a cost or y is not a quality.
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

// Points on a front get their names first. A narrow chart has room for no others.
function nameMarks(points, onFront) {
  const narrow = byId("cost-chart").clientWidth < NARROW && onFront.length;
  const all = points.length <= LABELLED && !narrow;
  for (const point of points) point.name = all || onFront.includes(point) ? modelTitle(point.group.model) : "";
  const inOrder = [...points].sort((one, other) => onFront.includes(other) - onFront.includes(one));
  placeNames(inOrder, byId("cost-log").checked, byId("cost-chart"));
}

// The traces of one series of comparable runs: its mark in the legend, the front, the single runs, the means. The legend shows
// a mark without a model's colour, because it stands for marks of all models.
function seriesTraces(points, { name, front, number, x, y, keys }) {
  const singles = points.filter(({ group }) => group.done.length > 1)
    .flatMap(({ group, hue }) => group.done.map((run) => ({ run, group, hue })));
  const common = { legendgroup: name, showlegend: false, hovertemplate: "%{hovertext}<extra></extra>" };
  const [muted, symbol] = [cssColour("muted"), SYMBOLS[number % SYMBOLS.length]];
  return [
    {
      ...common, mode: "markers", name: plain(name), showlegend: true, x: [null], y: [null],
      marker: { symbol, size: 9, color: muted },
    },
    {
      ...common, mode: "lines", x: front.map((point) => point.x), y: front.map((point) => point.y), hoverinfo: "skip",
      hovertemplate: null, line: { dash: "dot", width: 1.25, color: muted },
    },
    {
      ...common, mode: "markers", x: singles.map(({ run }) => x.of(run)), y: singles.map(({ run }) => y.of(run)),
      hovertext: singles.map(({ run }) => plain(run.name)), customdata: singles.map(({ group }) => group.number),
      marker: { size: 5, color: singles.map(({ hue }) => hue), opacity: 0.4 },
    },
    {
      ...common, ...namedMarks(points), name: plain(name),
      error_y: { type: "data", array: points.map((point) => point.spread), thickness: 1, width: 4, color: muted },
      customdata: points.map(({ group }) => group.number), hovertext: points.map((point) => pointHover(point, x, y, keys)),
      marker: {
        symbol, size: 9, line: { width: 1.75, color: points.map(({ hue }) => hue) },
        color: points.map((point) => (front.includes(point) ? point.hue : cssColour("paper"))),
      },
    },
  ];
}

function pointHover({ group, x: cost, y: value, spread }, x, y, keys) {
  return [
    `${modelTitle(group.model)} on ${group.first.data}: ${y.show(value)}${spread === null ? "" : ` ± ${y.show(spread)}`} `
      + `${y.title}, n = ${group.done.length}`,
    `${x.show(cost)} ${x.title}`, ...timings([{ group }], x),
    ...keys.slice(0, HOVER_KEYS).map((key) => `${key}=${text(setting(group.first, key))}`),
  ].map(plain).join("<br>");
}

const timedRuns = (points, x) =>
  (x.name === "ms_per_image" ? points.flatMap(({ group }) => group.done.filter((run) => run.time)) : []);

function timings(points, x) {
  const timed = timedRuns(points, x);
  const told = ({ how, place, batch }) => [how, place, `batches of ${batch}`].filter(Boolean).join(", ");
  return unique(timed.map(({ time }) => `measured ${told(time)}`));
}

function writeCostNote(points, x, front) {
  const times = timings(points, x);
  byId("cost-note").textContent = [
    "Each mark is the mean over the seeds of one configuration. Its bar is the standard deviation (none for one seed).",
    "Small dots are single runs, and a colour is a model. A click opens a configuration.", front.length ? FRONT : "",
    times.length ? `Times: ${times.join("; ")}.` : "",
  ].join(" ");
}

addSection("cost", drawScatter);
