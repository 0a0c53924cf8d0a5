// Puts names beside the marks of a chart, and makes a logarithmic axis with round ticks.

const NAMES_MARGIN = { l: 56, r: 40, t: 12, b: 48 }; // pixels; the outermost names reach into the margin
const SIDES = [[1, -1], [1, 1], [-1, -1], [-1, 1], [1, 0], [-1, 0], [0, -1], [0, 1]]; // right and down are positive
const MARK = 6; // pixels from a mark's middle to its rim
const LETTER = { width: 7.5, height: 14 }; // pixels

// Adds `text` and `place` to points with x, y and a name, so that a name covers no mark and no earlier name. A name
// without room is left out; the reader still sees it under the pointer.
function placeNames(points, logarithmic, { clientWidth, clientHeight }) {
  const across = scaleOf(points.map((point) => point.x), logarithmic, clientWidth - NAMES_MARGIN.l - NAMES_MARGIN.r);
  const down = scaleOf(points.map((point) => point.y), false, clientHeight - NAMES_MARGIN.t - NAMES_MARGIN.b);
  const centres = points.map((point) => [across(point.x), -down(point.y)]);
  const taken = centres.map(([x, y]) => [x - MARK, y - MARK, x + MARK, y + MARK]);
  points.forEach((point, i) => {
    const free = point.name && SIDES.find((side) => {
      const box = nameBox(centres[i], side, point.name.length);
      return !taken.some((other) => overlap(box, other)) && taken.push(box);
    });
    const [x, y] = free || SIDES[0];
    const place = `${["top", "middle", "bottom"][y + 1]} ${["left", "center", "right"][x + 1]}`;
    Object.assign(point, { text: free ? plain(point.name) : "", place });
  });
}

// A function from a value to pixels. A text counts as its place among the texts.
function scaleOf(values, logarithmic, pixels) {
  const texts = unique(values.map(String));
  const number = (value) => (typeof value === "string" ? texts.indexOf(value) : logarithmic ? Math.log(value) : value);
  const [low, high] = [Math.min(...values.map(number)), Math.max(...values.map(number))];
  return (value) => ((number(value) - low) / (high - low || 1)) * pixels * 0.9;
}

function nameBox([x, y], [right, below], letters) {
  const width = letters * LETTER.width;
  const left = x + right * MARK - ((1 - right) / 2) * width;
  const top = y + below * MARK - ((1 - below) / 2) * LETTER.height;
  return [left, top, left + width, top + LETTER.height];
}

const overlap = (one, other) => one[0] < other[2] && other[0] < one[2] && one[1] < other[3] && other[1] < one[3];

const namedMarks = (points) => ({
  mode: "markers+text", cliponaxis: false, x: points.map((point) => point.x), y: points.map((point) => point.y),
  text: points.map((point) => point.text), textposition: points.map((point) => point.place),
  hovertemplate: "%{hovertext}<extra></extra>",
});

// Ticks stand at 1, 2 and 5 of each power of ten, or at even steps if all values lie within one power of ten.
function logAxis(title, values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const step = 10 ** Math.floor(Math.log10(high)) / 2;
  const room = 1.15; // a factor, so that the names of the outermost marks fit
  const range = [low / room, high * room ** 2].map(Math.log10);
  return axis(title, { type: "log", range, tickformat: "~g", dtick: high > 10 * low ? "D2" : `L${step}` });
}
