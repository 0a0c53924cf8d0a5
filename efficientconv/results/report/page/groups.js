// Configurations: a group of runs that differ only in their seed, with means and spreads.

const GROUPS = [...Map.groupBy(DATA.runs, (run) => run.group).values()].map((runs, number) => ({
  number, id: runs[0].group, runs, first: runs[0], model: runs[0].model, done: runs.filter(isTrained),
}));

const groupOf = (run) => GROUPS.find((group) => group.id === run.group);

const mean = (values) => (values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null);

// The sample standard deviation (divided by n - 1); null for a single value.
function deviation(values) {
  const middle = mean(values);
  const squares = values.reduce((sum, value) => sum + (value - middle) ** 2, 0);
  return values.length < 2 ? null : Math.sqrt(squares / (values.length - 1));
}

// The groups with visible runs, and only these runs, in the order of the runs.
function visibleGroups() {
  const kept = new Set(visible);
  return GROUPS.map((group) => {
    const runs = group.runs.filter((run) => kept.has(run));
    return { ...group, runs, done: runs.filter(isTrained) };
  }).filter((group) => group.runs.length);
}

// Mean and spread of a figure over the runs that have it. Trials of a search have figures of held-out images only.
function over(group, name) {
  const values = group.runs.map((run) => figure(run, name)).filter((value) => value !== null);
  return { mean: mean(values), spread: deviation(values) };
}

// Costs have no ±, because they are nearly equal for all seeds.
function shownOver(group, name) {
  const { mean: middle, spread } = over(group, name);
  return spread === null || COSTS.includes(name) ? shown(name, middle) : `${shown(name, middle)} ± ${shown(name, spread)}`;
}

// Of the settings that tell configurations apart, those in which these groups differ.
function differingKeys(groups) {
  return DATA.settings.filter((key) => unique(groups.map((group) => group.first.config[KEY_NUMBERS.get(key)])).length > 1);
}

// A name is a setting of the part that it names: schedule.name is the schedule.
const shortKey = (key) => key.replace(/\.name$/, "").split(".").at(-1);

const shortValue = (value) => (typeof value === "number" ? String(Number(value.toPrecision(4))) : text(value));

// The model, and the settings in which the group differs from others.
const groupTitle = (group, keys) =>
  [modelTitle(group.model), ...keys.map((key) => `${shortKey(key)} ${shortValue(setting(group.first, key))}`)].join(", ");
