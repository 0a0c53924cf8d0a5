// Training curves of picked runs.

const FIRST_PICKED = 6;
const MOST_CURVES = 60; // more are neither readable nor drawn at once
const picked = new Set();

const listed = () => {
  const words = byId("picker-search").value.toLowerCase().split(/\s+/).filter(Boolean);
  return visible.filter((run) => words.every((word) => run.words.includes(word)));
};

function drawCurveSection() {
  fillMetrics(byId("curve-metric"), visible);
  fillPicker();
  drawPicked();
}

function fillPicker() {
  byId("picker-list").replaceChildren(...listed().map((run) => {
    const box = element("input", { type: "checkbox", checked: picked.has(run), value: run.name });
    box.addEventListener("input", () => {
      picked[box.checked ? "add" : "delete"](run);
      drawPicked();
    });
    return element("label", { title: `${run.name}: ${run.state}` }, box, element("span", {}, run.name));
  }));
}

function drawPicked() {
  const runs = visible.filter((run) => picked.has(run));
  const left = runs.length - MOST_CURVES;
  byId("curve-note").textContent = left > 0 ? `The first ${MOST_CURVES} of ${runs.length} picked runs are drawn.` : "";
  drawCurves("curve-chart", runs.slice(0, MOST_CURVES), byId("curve-metric").value, byId("curve-log").checked);
}

// To begin with, a run of each of the first few configurations.
function pickSome() {
  const groups = unique(visible.map((run) => run.group)).slice(0, FIRST_PICKED);
  for (const group of groups) picked.add(visible.find((run) => run.group === group));
}

function startCurves() {
  byId("curve-metric").addEventListener("input", drawPicked);
  byId("curve-log").addEventListener("input", drawPicked);
  byId("picker-search").addEventListener("input", fillPicker);
  byId("pick-listed").addEventListener("click", () => {
    listed().forEach((run) => picked.add(run));
    drawCurveSection();
  });
  byId("pick-none").addEventListener("click", () => {
    picked.clear();
    drawCurveSection();
  });
  addSection("curves", drawCurveSection);
}
