// The filters in the bar, which choose the runs that the page shows.

const ALL = "*";
const filters = { tier: byId("tier"), data: byId("data-set"), model: byId("model") };
let visible = [];

// The tier that the page shows first, because results of different tiers are not comparable: the tier of the reader's newest
// run. If the reader has no run folders, it is the tier with the most finished runs.
function firstTier() {
  const own = DATA.runs.find((run) => run.own);
  const done = (tier) => DATA.runs.filter((run) => run.tier === tier && isDone(run)).length;
  return own?.tier ?? unique(DATA.runs.map((run) => run.tier)).sort((one, other) => done(other) - done(one))[0];
}

const passes = (key, value) => filters[key].value === ALL || filters[key].value === value;

const searched = (search) => search.value.toLowerCase().split(/\s+/).filter(Boolean);

// The last part of a setting's name is enough: `lr=0.1` finds optim.lr=0.1.
function hasSetting(run, word) {
  const [name, value] = word.split("=", 2);
  return value !== undefined
    && DATA.keys.config.some((key) => (key === name || key.endsWith(`.${name}`)) && text(setting(run, key)) === value);
}

function applyFilters() {
  const ofTier = DATA.runs.filter((run) => passes("tier", run.tier));
  for (const key of ["data", "model"]) {
    fillSelect(filters[key], [[ALL, "all"], ...unique(ofTier.map((run) => run[key])).sort()]);
  }
  visible = ofTier.filter((run) => passes("data", run.data) && passes("model", run.model)
    && searched(byId("words")).every((word) => run.words.includes(word) || hasSetting(run, word)));
  byId("count").value = `${visible.length} of ${DATA.runs.length} runs`;
  showSection("search", differingKeys(visibleGroups()).length > 0);
  redrawSections();
}

fillSelect(filters.tier, [[ALL, "all tiers"], ...unique(DATA.runs.map((run) => run.tier)).sort()], firstTier());
byId("filters").addEventListener("input", applyFilters);
