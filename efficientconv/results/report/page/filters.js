// Which runs are shown: the choices in the bar, and who is to hear of a change.

const ALL = "*";
const filters = { tier: byId("tier"), data: byId("data-set"), model: byId("model") };
let visible = [];

// A tier's results mean something only among themselves: one tier is shown first, that of the reader's newest run; without
// runs of the reader's own the one with the most finished runs.
function firstTier() {
  const own = DATA.runs.find((run) => run.own);
  if (own) return own.tier;
  const done = (tier) => DATA.runs.filter((run) => run.tier === tier && isDone(run)).length;
  return unique(DATA.runs.map((run) => run.tier)).sort((one, other) => done(other) - done(one))[0];
}

const chosen = (key) => filters[key].value === ALL;

function inTier(run) {
  return chosen("tier") || run.tier === filters.tier.value;
}

function matches(run) {
  const words = byId("words").value.toLowerCase().split(/\s+/).filter(Boolean);
  return ["data", "model"].every((key) => chosen(key) || run[key] === filters[key].value)
    && words.every((word) => run.words.includes(word) || hasSetting(run, word));
}

// `lr=0.1` finds optim.lr=0.1.
function hasSetting(run, word) {
  if (!word.includes("=")) return false;
  const [name, value] = word.split("=", 2);
  return DATA.keys.config.some((key) => (key === name || key.endsWith(`.${name}`)) && text(setting(run, key)) === value);
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
  showSection("search", differingKeys(visibleGroups()).length > 0);
  redrawSections();
}

function startFilters() {
  const tiers = unique(DATA.runs.map((run) => run.tier)).sort();
  fillSelect(filters.tier, [[ALL, "all tiers"], ...tiers], firstTier());
  fillChoices();
  filters.tier.addEventListener("change", fillChoices);
  for (const control of [...Object.values(filters), byId("words")]) control.addEventListener("input", applyFilters);
}
