// Configurations: groups of runs that differ in nothing but their seed, with means and spreads.

const DESCRIBED = /^(seed|tier|data\.name|model\.(name|description|source|trunk|stages\b.*))$/; // elsewhere

const GROUPS = [...Map.groupBy(DATA.runs, (run) => run.group).values()].map((runs, number) => ({
  number, id: runs[0].group, runs, first: runs[0], model: runs[0].model, done: runs.filter(isDone),
}));

const groupOf = (run) => GROUPS.find((group) => group.id === run.group);

const mean = (values) => (values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null);

// With n - 1; null for a single value.
function deviation(values) {
  const middle = mean(values);
  const squares = values.reduce((sum, value) => sum + (value - middle) ** 2, 0);
  return values.length < 2 ? null : Math.sqrt(squares / (values.length - 1));
}

// Of all that is visible, as far as it is; in the order of the runs.
function visibleGroups() {
  const kept = new Set(visible);
  return GROUPS.map((group) => {
    const runs = group.runs.filter((run) => kept.has(run));
    return { ...group, runs, done: runs.filter(isDone) };
  }).filter((group) => group.runs.length);
}

// Mean and spread of a figure over the runs that have it: finished ones, and trials of a search what they held out.
function over(group, name) {
  const values = group.runs.map((run) => figure(run, name)).filter((value) => value !== null);
  return { mean: mean(values), spread: deviation(values) };
}

// Costs are all but the same for all seeds.
function shownOver(group, name) {
  const { mean: middle, spread } = over(group, name);
  return spread === null || COSTS.includes(name) ? shown(name, middle) : `${shown(name, middle)} ± ${shown(name, spread)}`;
}

// The settings in which the groups differ, the seed and the model's own description aside.
function differingKeys(groups) {
  return DATA.settings.filter((key) => KEY_NUMBERS.has(key) && !DESCRIBED.test(key)
    && unique(groups.map((group) => group.first.config[KEY_NUMBERS.get(key)])).length > 1);
}

const shortKey = (key) => key.split(".").at(-1);

const shortValue = (value) => (typeof value === "number" ? String(Number(value.toPrecision(4))) : text(value));

// The model, and what else tells the group from the others.
const groupTitle = (group, keys) =>
  [modelTitle(group.model), ...keys.map((key) => `${shortKey(key)} ${shortValue(setting(group.first, key))}`)].join(", ");
