// Training curves of picked configurations.

const FIRST_PICKED = 6;
const MOST_CURVES = 60; // more curves are unreadable, and slow to draw
const picked = new Set(); // of groups' ids

function listed() {
  const groups = visibleGroups();
  const keys = differingKeys(groups);
  const wordsOf = ({ title, runs }) => [title.toLowerCase(), ...runs.map((run) => run.words)].join(" ");
  return groups.map((group) => ({ ...group, title: groupTitle(group, keys) }))
    .filter((group) => searched(byId("picker-search")).every((word) => wordsOf(group).includes(word)));
}

function fillPicker() {
  byId("picker-list").replaceChildren(...listed().map(({ id, title, runs, model }) => {
    const box = element("input", { type: "checkbox", checked: picked.has(id), value: id });
    box.addEventListener("input", () => picked[box.checked ? "add" : "delete"](id));
    const mark = element("i", { className: "swatch", style: `background: ${modelColour(model)}` });
    const hover = `${title}: ${runs.map((run) => run.name).join(", ")}`;
    return element("label", { title: hover }, box, mark, element("span", {}, `${title} (${runs.length})`));
  }));
}

function drawPicked() {
  const groups = visibleGroups().filter((group) => picked.has(group.id));
  const [metric, single] = [byId("curve-metric").value, byId("curve-single").checked];
  const keys = differingKeys(groups);
  const recorded = groups.filter((group) => group.runs.some((run) => run.curves[metric]));
  const few = recorded.slice(0, MOST_CURVES);
  const alike = ({ model }, i) => few.slice(0, i).filter((one) => modelColour(one.model) === modelColour(model)).length;
  const traces = single ? runTraces(few.flatMap((group) => group.runs).slice(0, MOST_CURVES), metric)
    : few.flatMap((group, i) => groupTraces(group, alike(group, i), groupTitle(group, keys), metric));
  const why = groups.length ? NOT_RECORDED : "No configuration is picked.";
  drawCurves("curve-chart", traces, metric, why, byId("curve-log").checked);
  const band = single ? "" : "Means over the seeds, and one standard deviation to both sides. ";
  const some = recorded.length > few.length ? ` The first ${MOST_CURVES} of ${recorded.length} are drawn.` : "";
  byId("curve-note").textContent = `${band}Colours are models.${some}`;
}

function drawCurveSection() {
  fillMetrics(byId("curve-metric"), visible);
  fillPicker();
  drawPicked();
}

function pick(change) {
  change();
  drawCurveSection();
  writeAddress();
}

remember("picked", () => [...picked].join(" "), (value) => value.split(" ").forEach((id) => picked.add(id)));
byId("picker-search").addEventListener("input", fillPicker);
byId("pick-listed").addEventListener("click", () => pick(() => listed().forEach((group) => picked.add(group.id))));
byId("pick-none").addEventListener("click", () => pick(() => picked.clear()));
addSection("curves", drawCurveSection, drawPicked);
