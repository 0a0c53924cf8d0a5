// The axes of the charts: a figure (accuracy, MACs, time) or a setting in which configurations differ.

const COSTS = ["macs", "ms_per_image", "params"];
const RATE = /(^|\.)(lr|weight_decay|global_batch_size|epochs|width)$/; // shown on a logarithmic axis

// The figures that some run has. Filtered runs count too, so that a filter that leaves no run does not change the choice.
const RECORDED = Object.keys(FIGURES).filter((name) =>
  name === "top1_percent" || DATA.runs.some((run) => figure(run, name) !== null));

function figureAxis(name) {
  const { title, about, form } = FIGURES[name];
  return {
    name, title, about, value: (group) => scaled(name, over(group, name).mean), of: (run) => scaled(name, figure(run, name)),
    show: (value) => formatted(form, value), logarithmic: COSTS.includes(name), isCost: COSTS.includes(name),
  };
}

function settingOf(run, key) {
  const value = setting(run, key);
  return typeof value === "number" ? value : text(value);
}

function settingAxis(key, groups) {
  const of = (run) => settingOf(run, key);
  const logarithmic = RATE.test(key) && groups.every((group) => of(group.first) > 0);
  return { name: key, title: key, about: key, of, value: ({ first }) => of(first), show: shortValue, logarithmic };
}

// The axes of the first view: accuracy against cost; for a search, which has no accuracy on test images, accuracy on held-out
// images against the setting with the most values.
function firstAxes(groups) {
  const has = (name) => groups.some((group) => over(group, name).mean !== null);
  if (has("top1_percent") || !has("best_val_top1_percent")) return ["macs", "top1_percent"];
  const values = (key) => unique(groups.map((group) => settingOf(group.first, key))).length;
  const [searched = "macs"] = differingKeys(groups).sort((one, other) => values(other) - values(one));
  return [searched, "best_val_top1_percent"];
}

const axisOf = (name, groups) => (name in FIGURES ? figureAxis(name) : settingAxis(name, groups));

// `first`: the default, which follows the runs that are shown.
function fillAxis(select, groups, first) {
  if (select.value === select.dataset.first) select.value = "";
  select.dataset.first = first;
  const named = (names, kind) => names.map((name) => [name, FIGURES[name]?.title ?? name, kind]);
  const costs = named(COSTS, "costs");
  const others = named(RECORDED.filter((name) => !COSTS.includes(name)), "figures");
  const settings = named(differingKeys(groups), "settings");
  fillSelect(select, select.id === "cost-x" ? [...costs, ...settings, ...others] : [...others, ...costs], first);
}
