// plotly.js in the page's own type and colours, light or dark.

const COLOURS = 8;
const CLEAR = "rgba(0,0,0,0)";
const CONFIG = { displaylogo: false, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };
const dark = matchMedia("(prefers-color-scheme: dark)");

const cssColour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const colour = (number) => cssColour(`c${number % COLOURS}`);

// plotly.js reads tags and entities in its texts: names are to be shown as they are.
const plain = (value) => text(value).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

function axis(title, more = {}) {
  return {
    title: { text: plain(title), standoff: 12, font: { size: 13 } },
    gridcolor: cssColour("line"), linecolor: cssColour("line"), zeroline: false, ticks: "", automargin: true, ...more,
  };
}

function draw(id, traces, layout) {
  const base = {
    width: byId(id).clientWidth, // said, because plotly.js itself notices only a change of the window
    paper_bgcolor: CLEAR, plot_bgcolor: CLEAR, margin: { l: 56, r: 12, t: 12, b: 48 }, hovermode: "closest",
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: cssColour("ink") },
    modebar: { bgcolor: CLEAR, color: cssColour("muted"), activecolor: cssColour("ink") },
    hoverlabel: {
      bgcolor: cssColour("raised"), bordercolor: cssColour("line"), font: { color: cssColour("ink") },
      align: "left", namelength: -1,
    },
    legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom", font: { size: 12 } },
  };
  return Plotly.react(id, traces, { ...base, ...layout }, CONFIG);
}

// In place of a chart that would have nothing in it.
function drawNothing(id, why) {
  draw(id, [], {
    xaxis: { visible: false }, yaxis: { visible: false },
    annotations: [{ text: plain(why), showarrow: false, font: { color: cssColour("muted") } }],
  });
}
