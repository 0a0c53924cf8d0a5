// A row a configuration: what differs, how many seeds, means and spreads, costs.

const FIGURE_COLUMNS = ["top1_percent", "macs", "ms_per_image"];
const MOST_KEYS = 6; // columns of settings; of more, the first of them

function groupColumns(groups) {
  const keys = differingKeys(groups).slice(0, MOST_KEYS);
  const states = (group) => {
    const left = group.runs.length - group.done.length;
    return left ? `${group.done.length} of ${group.runs.length}` : String(group.done.length);
  };
  return [
    { title: "model", value: (group) => modelTitle(group.model), show: (group) => opener(modelTitle(group.model), group) },
    ...keys.map((key) => ({
      title: shortKey(key), about: key, value: (group) => settingAxis(key, groups).of(group.first),
      show: (group) => shortValue(setting(group.first, key)),
    })),
    { title: "n", about: "finished runs", value: (group) => group.done.length, show: states },
    ...FIGURE_COLUMNS.map((name) => ({
      title: FIGURES[name].title, about: FIGURES[name].about, value: (group) => scaled(name, over(group, name).mean),
      show: (group) => shownOver(group, name),
    })),
  ];
}

// The row's own button, for the keyboard.
function opener(title, group) {
  const button = element("button", { type: "button", className: "opener" }, title);
  button.addEventListener("click", (event) => {
    event.stopPropagation();
    openDetails(group);
  });
  return button;
}

// The spread has a column of its own where it is not for reading.
function spreadColumn(name) {
  return { title: `sd of ${FIGURES[name].title}`, value: (group) => scaled(name, over(group, name).spread) };
}

function drawConfigurations() {
  const groups = visibleGroups();
  const columns = groupColumns(groups);
  takeaways.set("configurations", [[...columns, spreadColumn("top1_percent")], groups]);
  byId("configuration-table").replaceChildren(sortableTable(columns, groups, { open: openDetails }));
}
