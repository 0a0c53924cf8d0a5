// What may stand at an axis: figures (accuracy, MACs, time) and the settings that differ.

const COSTS = ["macs", "ms_per_image", "params"];
const RATE = /(^|\.)(lr|weight_decay|global_batch_size|epochs|width)$/; // their doublings matter, not their steps

function figureAxis(name) {
  const { title, about, form } = FIGURES[name];
  return {
    name, title, about, value: (group) => scaled(name, over(group, name).mean), of: (run) => scaled(name, figure(run, name)),
    show: (value) => formatted(form, value), logarithmic: COSTS.includes(name), isCost: COSTS.includes(name),
  };
}

function settingAxis(key, groups) {
  const of = (run) => {
    const value = setting(run, key);
    return typeof value === "number" ? value : text(value);
  };
  const values = groups.map((group) => of(group.first));
  const numeric = values.every((value) => typeof value === "number");
  return {
    name: key, title: key, about: key, of, value: (group) => of(group.first), show: shortValue, numeric,
    logarithmic: numeric && RATE.test(key) && Math.min(...values) > 0, isCost: false,
  };
}

function axisOf(name, groups) {
  return name in FIGURES ? figureAxis(name) : settingAxis(name, groups);
}

// Figures that some finished run has, whether it is shown or not: a choice stays through a filter that leaves nothing.
const RECORDED = Object.keys(FIGURES).filter((name) =>
  name === "top1_percent" || DATA.runs.some((run) => isDone(run) && figure(run, name) !== null));

function fillAxis(select, groups, { first, costsFirst }) {
  const figures = RECORDED.map((name) => [name, FIGURES[name].title, "figures"]);
  const costs = COSTS.map((name) => [name, FIGURES[name].title, "costs"]);
  const keys = differingKeys(groups).map((key) => [key, key, "settings"]);
  const others = figures.filter(([name]) => !COSTS.includes(name));
  fillSelect(select, costsFirst ? [...costs, ...keys, ...others] : [...others, ...costs], first);
}
