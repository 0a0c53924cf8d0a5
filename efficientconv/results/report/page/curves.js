// Training curves of picked configurations.

const FIRST_PICKED = 6;
const MOST_CURVES = 60; // more are neither readable nor drawn at once
const picked = new Set(); // of groups' ids

const listed = () => {
  const words = byId("picker-search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const groups = visibleGroups();
  const keys = differingKeys(groups);
  const named = groups.map((group) => ({ ...group, title: groupTitle(group, keys) }));
  const found = (group, word) => group.title.toLowerCase().includes(word) || group.runs.some((run) => run.words.includes(word));
  return named.filter((group) => words.every((word) => found(group, word)));
};

function drawCurveSection() {
  fillMetrics(byId("curve-metric"), visible);
  fillPicker();
  drawPicked();
}

function fillPicker() {
  byId("picker-list").replaceChildren(...listed().map((group) => {
    const box = element("input", { type: "checkbox", checked: picked.has(group.id), value: group.id });
    box.addEventListener("input", () => {
      picked[box.checked ? "add" : "delete"](group.id);
      drawPicked();
    });
    const title = `${group.title}: ${group.runs.map((run) => run.name).join(", ")}`;
    const mark = element("i", { className: "swatch", style: `background: ${modelColour(group.model)}` });
    return element("label", { title }, box, mark, element("span", {}, `${group.title} (${group.runs.length})`));
  }));
}

function drawPicked() {
  const groups = visibleGroups().filter((group) => picked.has(group.id));
  const metric = byId("curve-metric").value;
  const keys = differingKeys(groups);
  const recorded = groups.filter((group) => group.runs.some((run) => run.curves[metric]));
  const few = recorded.slice(0, MOST_CURVES);
  byId("curve-note").textContent = curveNote(recorded.length - few.length, recorded.length);
  const logarithmic = byId("curve-log").checked;
  const why = groups.length ? "None of these runs has recorded this." : "No configuration is picked.";
  const drawing = byId("curve-single").checked
    ? drawRunCurves("curve-chart", few.flatMap((group) => group.runs).slice(0, MOST_CURVES), metric, logarithmic)
    : drawCurves("curve-chart", few.flatMap((group, i) => {
      const alike = few.slice(0, i).filter((earlier) => modelColour(earlier.model) === modelColour(group.model)).length;
      return groupTraces(group, alike, groupTitle(group, keys), metric);
    }), metric, logarithmic, why);
  drawing?.then(() => openOnClick("curve-chart"));
}

function curveNote(left, all) {
  const band = byId("curve-single").checked ? "" : "Means over the seeds, and one standard deviation to both sides. ";
  return `${band}Colours are models.${left > 0 ? ` The first ${MOST_CURVES} of ${all} are drawn.` : ""}`;
}

// To begin with, the first few configurations that have curves.
function pickSome() {
  const groups = visibleGroups().filter((group) => group.runs.some((run) => run.epochs));
  for (const group of groups.slice(0, FIRST_PICKED)) picked.add(group.id);
}

function startCurves() {
  rememberControls("curve-metric", "curve-log", "curve-single");
  remember("picked", () => [...picked].join(" "), (value) => value.split(" ").forEach((id) => picked.add(id)));
  for (const id of ["curve-metric", "curve-log", "curve-single"]) byId(id).addEventListener("input", drawPicked);
  byId("picker-search").addEventListener("input", fillPicker);
  byId("pick-listed").addEventListener("click", () => {
    listed().forEach((group) => picked.add(group.id));
    drawCurveSection();
    writeAddress();
  });
  byId("pick-none").addEventListener("click", () => {
    picked.clear();
    fillPicker();
    drawPicked();
    writeAddress();
  });
  addSection("curves", drawCurveSection);
}
