// Configurations: groups of runs that differ in nothing but their seed, with means and spreads.

const DESCRIBED = /^(seed|tier|data\.name|model\.(name|description|source|trunk|stages\b.*))$/; // said by the model, elsewhere

const GROUPS = [...Map.groupBy(DATA.runs, (run) => run.group).values()].map((runs, number) => ({
  number, id: runs[0].group, runs, first: runs[0], model: runs[0].model, done: runs.filter(isDone),
}));

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

// With n - 1; null for a single value.
function deviation(values) {
  if (values.length < 2) return null;
  const middle = mean(values);
  return Math.sqrt(values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1));
}

// Of all that is visible, as far as it is; in the order of the runs.
function visibleGroups() {
  const kept = new Set(visible);
  return GROUPS.filter((group) => group.runs.some((run) => kept.has(run))).map((group) => ({
    ...group, runs: group.runs.filter((run) => kept.has(run)), done: group.done.filter((run) => kept.has(run)),
  }));
}

// Mean and spread of a figure over the finished runs that have it.
function over(group, name) {
  const values = group.done.map((run) => figure(run, name)).filter((value) => value !== null);
  return { mean: values.length ? mean(values) : null, spread: deviation(values), n: values.length };
}

// Costs are all but the same for all seeds.
function shownOver(group, name) {
  const { mean: middle, spread } = over(group, name);
  return spread === null || COSTS.includes(name) ? shown(name, middle) : `${shown(name, middle)} ± ${shown(name, spread)}`;
}

// The settings in which the groups differ, the seed and the model's own description aside.
function differingKeys(groups) {
  return DATA.settings.filter((key) => KEY_NUMBERS.has(key) && !DESCRIBED.test(key) && groups.some((group) => {
    const number = KEY_NUMBERS.get(key);
    return group.first.config[number] !== groups[0].first.config[number];
  }));
}

const shortKey = (key) => key.split(".").at(-1);

// The model, and what else tells the group from the others.
function groupTitle(group, keys) {
  const told = keys.map((key) => `${shortKey(key)} ${shortValue(setting(group.first, key))}`);
  return [modelTitle(group.model), ...told].join(", ");
}

const shortValue = (value) => (typeof value === "number" ? String(Number(value.toPrecision(4))) : text(value));
