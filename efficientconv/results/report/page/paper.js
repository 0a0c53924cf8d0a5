// The paper's points. They are of ImageNet, ours mostly are not: they never share a panel.

function drawPaper(cost) {
  const wanted = byId("show-paper").checked;
  byId("paper-panel").hidden = !wanted;
  if (!wanted) return;
  if (cost === COSTS.time) return drawNothing("paper-chart", "The paper’s times are not known here.");
  const points = DATA.paper.map((point) => ({ ...point, cost: cost.of(point) }));
  draw("paper-chart", [paperTrace(points)], {
    margin: NAMES_MARGIN, showlegend: false, yaxis: axis("100 − top-1 error % in the paper"),
    xaxis: costAxis(cost.axis, points.map((point) => point.cost)),
  });
}

function paperTrace(points) {
  const muted = cssColour("muted");
  const hover = ({ model, top1, mark, tables }) => `${modelTitle(model)}: ${top1} % (${mark}), table ${tables.join(", ")}`;
  return {
    mode: "markers+text", x: points.map((point) => point.cost), y: points.map((point) => point.top1), cliponaxis: false,
    text: points.map((point) => plain(modelTitle(point.model))), textposition: labelCorners(points),
    textfont: { color: muted },
    hovertext: points.map((point) => plain(hover(point))), hovertemplate: "%{hovertext}<extra></extra>",
    marker: { symbol: "diamond-open", size: 8, color: muted },
  };
}
