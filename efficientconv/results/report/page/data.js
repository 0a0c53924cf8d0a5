// Unpacks the data that payload.py packed, for the other files.

const DATA = JSON.parse(document.getElementById("data").textContent);
const FIGURES = DATA.figures; // by name: title, unit, about, form, scale, better (results/figures.py)
const KEY_NUMBERS = new Map(DATA.keys.config.map((key, i) => [key, i]));

for (const run of DATA.runs) { // in the order of sources.py: run folders before records, the newest first
  run.tier ??= "no tier";
  run.words = [run.name, run.model, run.data, run.tier, run.state].join(" ").toLowerCase();
}

const unique = (values) => [...new Set(values)];

// A trial that a search has finished is over, too: a search does not evaluate the test images.
const isDone = (run) => ["done", "finished"].includes(run.state);

const isTrained = (run) => isDone(run) || run.state === "trained";

// One `part` of the run ("config", "summary" or "environment") as a Map from dotted keys to values.
const settings = (run, part) =>
  new Map(run[part].flatMap((position, i) => (position < 0 ? [] : [[DATA.keys[part][i], DATA.values[position]]])));

const setting = (run, key) => DATA.values[run.config[KEY_NUMBERS.get(key)]] ?? null;

const figure = (run, name) => run.figures[name] ?? null;

// Models A to O as the paper writes them.
const modelTitle = (model) => (model.length === 1 ? model.toUpperCase() : model);

function text(value) {
  if (value === null || value === undefined) return "–";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

// `form` is a format of figures.py, for example ",.2f" or ".3g".
function formatted(form, value) {
  const [, comma, digits, kind] = form.match(/^(,?)\.(\d+)([fg])$/);
  if (kind === "g") return String(Number(value.toPrecision(digits)));
  const places = { minimumFractionDigits: Number(digits), maximumFractionDigits: Number(digits) };
  return value.toLocaleString("en-US", { ...places, useGrouping: comma === "," });
}

const scaled = (name, value) => (value === null ? null : value / FIGURES[name].scale);

const shown = (name, value) => (value === null ? "" : formatted(FIGURES[name].form, scaled(name, value)));
