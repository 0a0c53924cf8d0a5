// Groups of runs that differ in nothing but their seed: means, spreads, and which of them no other beats.

const COSTS = {
  macs: { title: "MACs", axis: "million MACs of one image", of: (run) => run.macs / 1e6, unit: "M MACs" },
  time: { title: "measured time", axis: "ms per image", of: (run) => run.time?.ms ?? null, unit: "ms per image" },
  params: { title: "parameters", axis: "million parameters", of: (run) => run.params / 1e6, unit: "M parameters" },
};

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

// With n - 1; null for a single value.
function deviation(values) {
  if (values.length < 2) return null;
  const middle = mean(values);
  return Math.sqrt(values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1));
}

// Of the finished ones among `runs` that have this cost.
function groupsOf(runs, cost) {
  const members = new Map();
  for (const run of runs.filter((run) => isDone(run) && cost.of(run) !== null)) {
    if (!members.has(run.group)) members.set(run.group, []);
    members.get(run.group).push(run);
  }
  return [...members.values()].map((runs) => {
    const accuracies = runs.map((run) => run.top1);
    return { runs, first: runs[0], cost: mean(runs.map(cost.of)), top1: mean(accuracies), spread: deviation(accuracies) };
  });
}

// Those that no other group matches at the same cost or less, from the cheapest on.
function paretoFront(groups) {
  const front = [];
  for (const group of [...groups].sort((one, other) => one.cost - other.cost || other.top1 - one.top1)) {
    if (!front.length || group.top1 > front.at(-1).top1) front.push(group);
  }
  return front;
}

// The settings in which the groups differ from each other, the seed and the model's own description aside.
function differingKeys(groups) {
  const configs = groups.map((group) => group.first.config);
  return DATA.keys.config.map((_, i) => i).filter((i) => {
    const key = DATA.keys.config[i];
    return key !== "seed" && key !== "tier" && (key === "model.width" || !key.startsWith("model."))
      && configs.some((config) => config[i] !== configs[0][i]);
  });
}
