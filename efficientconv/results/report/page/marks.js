// Named marks on a logarithmic axis of cost: where their names go, and the axis.

const CORNERS = ["top right", "bottom right", "top left", "bottom left"];
const CROWDED = 0.07; // of an axis: names of marks nearer to each other than this go to different corners
const NAMES_MARGIN = { l: 56, r: 40, t: 12, b: 48 }; // pixels; the outermost names reach into it

// Points have a `cost` and a `top1`.
function labelCorners(points) {
  const range = (values) => Math.max(...values) - Math.min(...values) || 1;
  const across = range(points.map((point) => Math.log(point.cost)));
  const up = range(points.map((point) => point.top1));
  const near = (one, other) => Math.abs(Math.log(one.cost / other.cost)) < CROWDED * across
    && Math.abs(one.top1 - other.top1) < CROWDED * up;
  return points.map((point, i) => {
    const earlier = points.slice(0, i).filter((other) => near(point, other));
    return CORNERS[earlier.length % CORNERS.length];
  });
}

// Ticks at 1, 2 and 5 of each power of ten, or at even steps where all lies within a power.
function costAxis(title, costs) {
  const [low, high] = [Math.min(...costs), Math.max(...costs)];
  const step = 10 ** Math.floor(Math.log10(high)) / 2;
  const room = 1.15; // for the names of the outer marks
  const range = [low / room, high * room ** 2].map(Math.log10);
  return axis(title, { type: "log", range, tickformat: "~g", dtick: high > 10 * low ? "D2" : `L${step}` });
}
