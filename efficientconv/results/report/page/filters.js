// Which runs are shown: the choices in the bar, and who is to hear of a change.

const ALL = "";
const filters = { tier: byId("tier"), data: byId("data-set"), model: byId("model") };
let visible = [];

// A tier's results mean something only among themselves: the one with the most finished runs is shown first, not all.
function largestTier() {
  const done = (tier) => DATA.runs.filter((run) => run.tier === tier && isDone(run)).length;
  return unique(DATA.runs.map((run) => run.tier)).sort((one, other) => done(other) - done(one))[0];
}

function inTier(run) {
  return filters.tier.value === ALL || run.tier === filters.tier.value;
}

function matches(run) {
  const words = byId("words").value.toLowerCase().split(/\s+/).filter(Boolean);
  return ["data", "model"].every((key) => filters[key].value === ALL || run[key] === filters[key].value)
    && words.every((word) => run.words.includes(word) || hasSetting(run, word));
}

// `lr=0.1` finds optim.lr=0.1.
function hasSetting(run, word) {
  if (!word.includes("=")) return false;
  const [name, value] = word.split("=", 2);
  const named = (key) => key === name || key.endsWith(`.${name}`);
  return [...settings(run, "config")].some(([key, set]) => named(key) && text(set) === value);
}

function fillChoices() {
  for (const key of ["data", "model"]) {
    const values = unique(DATA.runs.filter(inTier).map((run) => run[key])).sort();
    fillSelect(filters[key], [[ALL, "all"], ...values]);
  }
}

function applyFilters() {
  visible = DATA.runs.filter((run) => inTier(run) && matches(run));
  byId("count").value = `${visible.length} of ${DATA.runs.length} runs`;
  redrawSections();
}

function startFilters() {
  const tiers = unique(DATA.runs.map((run) => run.tier)).sort();
  fillSelect(filters.tier, [[ALL, "all tiers"], ...tiers], largestTier());
  filters.tier.value = largestTier();
  fillChoices();
  filters.tier.addEventListener("change", fillChoices);
  for (const control of [...Object.values(filters), byId("words")]) control.addEventListener("input", applyFilters);
}
