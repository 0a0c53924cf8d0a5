// Draws charts by plotly.js with the page's font and colours, on a light or dark screen or on paper.

const COLOURS = 8;
const CLEAR = "rgba(0,0,0,0)";
const NARROW = 560; // pixels of a chart
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "pentagon", "star"];
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"]; // of curves of one colour
const MODELS = unique(DATA.runs.map((run) => run.model)).sort();
const dark = matchMedia("(prefers-color-scheme: dark)");

const cssColour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const colour = (number) => cssColour(`c${number % COLOURS}`);

// A model has one colour in all charts.
const modelColour = (model) => colour(MODELS.indexOf(model));

// A mixture of two named colours, with `share` of the second.
function mixed(one, other, share) {
  const parts = [one, other].map((name) => cssColour(name).match(/\w\w/g).map((part) => parseInt(part, 16)));
  return `rgb(${parts[0].map((value, i) => value * (1 - share) + parts[1][i] * share)})`;
}

// plotly.js would read tags and entities in a text. Names must be shown as they are.
const plain = (value) => text(value).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

function axis(title, more = {}) {
  return {
    title: { text: plain(title), standoff: 12, font: { size: 13 } },
    gridcolor: cssColour("line"), linecolor: cssColour("line"), zeroline: false, ticks: "", automargin: true, ...more,
  };
}

function draw(id, traces, layout) {
  const width = byId(id).clientWidth; // given, because plotly.js notices only a change of the window's size
  const base = {
    width, height: byId(id).clientHeight, paper_bgcolor: CLEAR, plot_bgcolor: CLEAR, hovermode: "closest",
    margin: { l: width < NARROW ? 44 : 56, r: 12, t: 12, b: 48 },
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: cssColour("ink") },
    hoverlabel: {
      bgcolor: cssColour("raised"), bordercolor: cssColour("line"), font: { color: cssColour("ink") },
      align: "left", namelength: -1,
    },
    legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom", font: { size: 12 } },
  };
  Plotly.react(id, traces, { ...base, ...layout }, { displayModeBar: false }).then((chart) => {
    chart.removeAllListeners("plotly_click");
    chart.on("plotly_click", openClicked);
  });
}

// Draws a sentence in place of a chart without data.
function drawNothing(id, why) {
  draw(id, [], {
    xaxis: { visible: false }, yaxis: { visible: false },
    annotations: [{ text: plain(why), showarrow: false, font: { color: cssColour("muted") } }],
  });
}

// Marks and curves have the number of their group as customdata.
function openClicked({ points }) {
  const number = points.map((point) => point.customdata).find((value) => value !== undefined);
  if (number !== undefined) openDetails(GROUPS[number]);
}

for (const button of document.querySelectorAll("[data-svg]")) {
  button.setAttribute("aria-label", "Save this chart as SVG");
  button.addEventListener("click", () => {
    const { clientWidth: width, clientHeight: height } = byId(button.dataset.svg);
    Plotly.downloadImage(button.dataset.svg, { format: "svg", filename: button.dataset.svg, width, height });
  });
}
