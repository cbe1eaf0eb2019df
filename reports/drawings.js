// Drawings: how they look in light and in dark, and what is in them, as rows of a table.

// plotly's modebar has a button that sends the data to its maker's server
const CONFIG = {
  responsive: true, displaylogo: false, plotlyServerURL: "",
  modeBarButtonsToRemove: ["sendChartToCloud", "select2d", "lasso2d"],
};
const ARRAYS = {
  f8: Float64Array, f4: Float32Array, i4: Int32Array, u4: Uint32Array, i2: Int16Array,
  u2: Uint16Array, i1: Int8Array, u1: Uint8Array, u1c: Uint8ClampedArray,
};

function template(dark, width) {
  const ink = dark ? "#e6e9ed" : "#1b1f24", line = dark ? "#3a424c" : "#d0d7de";
  const axis = {
    gridcolor: line, linecolor: line, zerolinecolor: line, automargin: true,
    ticks: "outside", tickcolor: line, title: {standoff: 8},
  };
  return {
    layout: {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: {color: ink, size: width < 600 ? 11 : 13, family: "system-ui, sans-serif"},
      hoverlabel: {bgcolor: dark ? "#2a3038" : "#ffffff", font: {color: ink}},
      modebar: {bgcolor: "rgba(0,0,0,0)", color: dark ? "#a3acb6" : "#57606a", activecolor: ink},
      xaxis: axis, yaxis: axis,
    },
  };
}

/** Draws in an element, as wide as that or, for paper, so many pixels wide. */
function draw(plot, drawing, dark, width) {
  const layout = {...drawing.layout, template: template(dark, width || plot.clientWidth)};
  layout.width = width;
  layout.autosize = !width;
  return Plotly.react(plot, drawing.data, layout, CONFIG);
}

/** A drawing as the text of an SVG file, always dark on white. */
async function svgOf(drawing) {
  const layout = {
    ...drawing.layout, template: template(false, 900), paper_bgcolor: "#fff", plot_bgcolor: "#fff",
    autosize: false, width: 900,
  };
  const size = {format: "svg", width: 900, height: layout.height || 450};
  const address = await Plotly.toImage({data: drawing.data, layout, config: CONFIG}, size);
  return decodeURIComponent(address.slice(address.indexOf(",") + 1));
}

/** Text that plotly shows as it is, though it reads a little HTML. */
const shown = text => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

/** What a text that plotly is given reads as. */
const read = text => String(text).replace(/<br>/g, " ").replace(/<[^>]*>/g, "")
  .replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&amp;/g, "&");

/** The numbers of a list that is written as a list, or as base64 with its type and shape. */
function listed(values) {
  if (!values || Array.isArray(values)) return values || [];
  const bytes = Uint8Array.from(atob(values.bdata), letter => letter.charCodeAt(0));
  const flat = Array.from(new ARRAYS[values.dtype](bytes.buffer));
  const shape = values.shape ? String(values.shape).split(",").map(Number) : [];
  if (shape.length !== 2) return flat;
  const [height, width] = shape;
  return Array.from({length: height}, (_, row) => flat.slice(row * width, (row + 1) * width));
}

/** What a drawing shows, a row for each point: its panel, its line, x and y, and z of a map. */
function drawingRows(drawing) {
  const rows = [["panel", "line", "x", "y", "z"]];
  for (const trace of drawing.data) {
    const panel = panelOf(drawing.layout, trace), line = lineOf(trace);
    const [x, y, z] = [listed(trace.x), listed(trace.y), listed(trace.z)];
    const put = (...cells) => rows.push([panel, line, ...cells.map(plainCell)]);
    z.forEach((values, row) => listed(values).forEach((value, at) =>
      put(x[at] ?? at, y[row] ?? row, value)));
    const points = trace.z ? 0 : Math.max(x.length, y.length);
    for (let at = 0; at < points; at++) put(x[at] ?? "", y[at] ?? "", "");
  }
  return drawing.data.some(trace => trace.z) ? rows : rows.map(row => row.slice(0, 4));
}

const plainCell = cell => typeof cell === "string" ? read(cell) : cell;

/** The title above a trace's panel, or the panel's number where it has none. */
function panelOf(layout, trace) {
  const number = Number((trace.yaxis || "y").slice(1) || 1);
  const domain = axis => (layout[number > 1 ? `${axis}${number}` : axis] || {}).domain || [0, 1];
  const [left, right] = domain("xaxis"), top = domain("yaxis")[1];
  const above = each => each.yref === "paper" && each.yanchor === "bottom" && !each.yshift
    && Math.abs(each.y - top) < 1e-6 && left <= each.x && each.x <= right;
  const title = (layout.annotations || []).find(above);
  return title ? read(title.text) : String(number);
}

/** A trace's name: its own, or what its hover text begins with. */
function lineOf(trace) {
  if (trace.name) return read(trace.name);
  const said = String(trace.hovertemplate || "").split(/<br>|: %\{/)[0];
  return said.includes("%{") ? read(trace.legendgroup || "") : read(said);
}
