// The paper's points. They never share a panel with ours: the paper's accuracies are of ImageNet, and most of ours are not.

function drawPaper(x) {
  byId("paper-panel").hidden = !byId("show-paper").checked;
  if (byId("paper-panel").hidden) return;
  if (!(x.name in DATA.paper[0])) return drawNothing("paper-chart", "The paper does not have that.");
  const points = DATA.paper.map((point) => ({
    ...point, x: scaled(x.name, point[x.name]), y: point.top1, name: modelTitle(point.model),
  }));
  placeNames(points, true, byId("paper-chart"));
  const color = cssColour("muted");
  draw("paper-chart", [{
    ...namedMarks(points), textfont: { color }, marker: { symbol: "diamond-open", size: 8, color },
    hovertext: points.map((one) => plain(`${one.name}: ${one.top1} % (${one.mark}), table ${one.tables.join(", ")}`)),
  }], {
    margin: NAMES_MARGIN, showlegend: false, yaxis: axis("100 − top-1 error % in the paper"),
    xaxis: logAxis(x.about, points.map((point) => point.x)),
  });
}
