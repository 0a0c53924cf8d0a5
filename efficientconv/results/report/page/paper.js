// The paper's points. They are of ImageNet, ours mostly are not: they never share a panel.

function drawPaper(x) {
  const wanted = byId("show-paper").checked;
  byId("paper-panel").hidden = !wanted;
  if (!wanted) return;
  if (!(x.name in DATA.paper[0])) return drawNothing("paper-chart", "The paper does not have that.");
  const points = DATA.paper.map((point) => ({
    ...point, x: scaled(x.name, point[x.name]), y: point.top1, name: modelTitle(point.model),
  }));
  draw("paper-chart", [paperTrace(points)], {
    margin: NAMES_MARGIN, showlegend: false, yaxis: axis("100 − top-1 error % in the paper"),
    xaxis: logAxis(x.about, points.map((point) => point.x)),
  });
}

function paperTrace(points) {
  const muted = cssColour("muted");
  const names = placeNames(points, true, byId("paper-chart"));
  const hover = ({ model, top1, mark, tables }) => `${modelTitle(model)}: ${top1} % (${mark}), table ${tables.join(", ")}`;
  return {
    mode: "markers+text", x: points.map((point) => point.x), y: points.map((point) => point.y), cliponaxis: false,
    text: names.map((name) => plain(name.text)), textposition: names.map((name) => name.place),
    textfont: { color: muted },
    hovertext: points.map((point) => plain(hover(point))), hovertemplate: "%{hovertext}<extra></extra>",
    marker: { symbol: "diamond-open", size: 8, color: muted },
  };
}
