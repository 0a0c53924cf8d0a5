// The effect of each setting: configurations as lines through their settings, and the best figure after each run.

const MOST_LINES = 300;
const MOST_AXES = 8;
const TICK_ROOM = 0.06; // of an axis's length: the height of a value's text
const FEW_VALUES = 6; // up to this number, an axis shows each of its values

function drawSearch() {
  const having = (name) => visibleGroups().filter((group) => over(group, name).mean !== null);
  const [tested, heldOut] = ["top1_percent", "best_val_top1_percent"];
  const preferred = having(heldOut).length > having(tested).length ? heldOut : tested; // a search has no test
  fillSelect(byId("search-figure"), RECORDED.map((name) => [name, FIGURES[name].title]), preferred);
  const aim = figureAxis(byId("search-figure").value);
  const groups = having(aim.name);
  drawParallel(groups, differingKeys(groups).slice(0, MOST_AXES - 1), aim);
  drawBest(aim);
}

function drawParallel(groups, keys, aim) {
  const models = { title: "model", value: (group) => modelTitle(group.model) };
  const several = unique(groups.map((group) => group.model)).length > 1;
  const axes = [...(several ? [models] : []), ...keys.map((key) => settingAxis(key, groups)), aim];
  const placed = axes.map((one) => placeOn(one, groups));
  const sign = FIGURES[aim.name].better === "lower" ? -1 : 1;
  const ranked = [...groups].sort((one, other) => sign * (aim.value(one) - aim.value(other)));
  const drawn = ranked.slice(-MOST_LINES); // the best last, on top
  const hover = (group) => plain(`${groupTitle(group, keys)}: ${aim.show(aim.value(group))} ${aim.title}`);
  draw("parallel-chart", drawn.map((group, i) => ({
    mode: "lines", x: axes.map((_, j) => j), y: placed.map((place) => place.of(group)), showlegend: false,
    line: { width: i === drawn.length - 1 ? 3 : 1.25, color: mixed("line", "accent", (i + 1) / drawn.length) },
    customdata: axes.map(() => group.number), hovertemplate: `${hover(group)}<extra></extra>`,
  })), {
    margin: { l: 48, r: 64, t: 12, b: 56 }, yaxis: { visible: false, range: [-0.06, 1.06] },
    xaxis: axis("", { tickvals: axes.map((_, j) => j), ticktext: axes.map((one) => plain(shortKey(one.title))) }),
    annotations: placed.flatMap((place, j) => place.ticks.map(([y, label]) => ({
      x: j, y, text: plain(label), showarrow: false, xanchor: "left", xshift: 4, font: { size: 11 },
      bgcolor: cssColour("paper"),
    }))),
  });
  const some = ranked.length > MOST_LINES ? ` The best ${MOST_LINES} of ${ranked.length} are drawn.` : "";
  byId("parallel-note").textContent = `A line is a configuration. A better one is bluer, and the best one is thick.${some}`;
}

// The place of a group on an axis, from 0 to 1, and the values written at the axis. Texts stand in their order.
function placeOn({ value, show = text, logarithmic }, groups) {
  const values = unique(groups.map(value)).sort((a, b) => compare(a, b, 1));
  const numeric = values.every((one) => typeof one === "number");
  const number = (one) => (!numeric ? values.indexOf(one) : logarithmic && values[0] > 0 ? Math.log(one) : one);
  const [low, high] = [number(values[0]), number(values.at(-1))];
  const at = (one) => (high > low ? (number(one) - low) / (high - low) : 0.5);
  const written = !numeric || values.length <= FEW_VALUES ? values : [values[0], values.at(-1)];
  return { of: (group) => at(value(group)), ticks: apart(written.map((one) => [at(one), show(one)])) };
}

// Of the ticks, which go up, those with room for their text: the last and, from the first on, all that are not too near.
function apart(ticks) {
  const last = ticks.at(-1), kept = [];
  for (const tick of ticks.slice(0, -1)) {
    const next = kept.length ? kept.at(-1)[0] + TICK_ROOM : 0;
    if (tick[0] >= next && tick[0] <= last[0] - TICK_ROOM) kept.push(tick);
  }
  return [...kept, ...ticks.slice(-1)];
}

function drawBest(aim) {
  const ended = visible.filter((run) => run.ended && aim.of(run) !== null);
  if (!ended.length) return drawNothing("best-chart", "Kept records do not say when their runs ended.");
  const runs = ended.sort((one, other) => (one.ended < other.ended ? -1 : 1));
  const best = FIGURES[aim.name].better === "lower" ? Math.min : Math.max;
  const [x, y] = [runs.map((_, i) => i + 1), runs.map(aim.of)];
  draw("best-chart", [
    {
      mode: "lines", name: "best so far", x, y: y.map((_, i) => best(...y.slice(0, i + 1))),
      line: { shape: "hv", color: cssColour("accent"), width: 2 },
    },
    {
      mode: "markers", name: "run", x, y, hovertext: runs.map((run) => plain(run.name)),
      marker: { size: 6, color: runs.map((run) => modelColour(run.model)) },
      customdata: runs.map((run) => groupOf(run).number),
    },
  ], { xaxis: axis("runs, by the time they ended"), yaxis: axis(aim.title), showlegend: false });
}

addSection("search", drawSearch);
