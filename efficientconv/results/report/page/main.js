// What the page is about, and the start of everything.

function writeHeader() {
  const { at, of, git_commit: commit, git_dirty: changed } = DATA.made;
  const code = commit === null ? "" : `, by commit ${commit.slice(0, 10)}${changed ? " with changes" : ""}`;
  byId("made").textContent = `Made ${at.replace("T", " ").replace("+00:00", " UTC")} from ${of.join(", ")}${code}.`;
  for (const state of unique(DATA.runs.map((run) => run.state)).sort()) {
    const { length } = DATA.runs.filter((run) => run.state === state);
    byId("states").append(element("span", { className: `state ${state}` }, `${length} ${state}`), " ");
  }
}

function writeWarnings() {
  const { warnings } = DATA;
  byId("warnings").hidden = !warnings.length;
  byId("warnings").querySelector("summary").textContent = `${warnings.length} left out`;
  byId("warnings").querySelector("ul").append(...warnings.map((warning) => element("li", {}, warning)));
}

function startKernels() {
  byId("kernels").hidden = !DATA.kernels.length;
  addSection("kernels", () => byId("kernel-list").replaceChildren(...DATA.kernels.flatMap(({ title, url }) => [
    element("h3", {}, title), element("img", { src: url, alt: `Kernels: ${title}` }),
  ])));
}

writeHeader();
writeWarnings();
startScatter();
startCurves();
addSection("runs", drawRuns);
addSection("unfinished", drawUnfinished);
startCompare();
addSection("tables", drawTables);
startKernels();
startFilters();
applyFilters();
pickSome();
