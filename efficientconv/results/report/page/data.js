// What payload.py packed, as the other files read it.

const DATA = JSON.parse(document.getElementById("data").textContent);
const NO_TIER = "no tier";

for (const run of DATA.runs) {
  run.tier = run.tier ?? NO_TIER;
  run.words = [run.name, run.model, run.data, run.tier, run.state].join(" ").toLowerCase();
}

// The run's `part` ("config", "summary" or "environment") as a Map, of dotted keys.
function settings(run, part) {
  const keys = DATA.keys[part];
  const filled = run[part].flatMap((position, i) => (position < 0 ? [] : [[keys[i], DATA.values[position]]]));
  return new Map(filled);
}

const isDone = (run) => run.state === "done" && run.top1 !== null;

const unique = (values) => [...new Set(values)];

// Models A to O as the paper writes them.
const modelTitle = (model) => (model.length === 1 ? model.toUpperCase() : model);

function text(value) {
  if (value === null || value === undefined) return "–";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

const fixed = (value, digits) => (value === null || value === undefined ? "" : value.toFixed(digits));

const significant = (value) => Number(value.toPrecision(4)).toLocaleString("en-US", { maximumFractionDigits: 6 });
