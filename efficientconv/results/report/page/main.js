// Runs last: all other files are loaded, and nothing is drawn yet.

applyFilters();
if (!picked.size) { // the first few configurations that have curves
  const recorded = visibleGroups().filter((group) => group.runs.some((run) => run.epochs));
  recorded.slice(0, FIRST_PICKED).forEach((group) => picked.add(group.id));
}
