// The curves of a metric: a panel for each chosen task, a strong line for the aggregate over the
// seeds, and a band or faint lines around it.

const AGGREGATES = {
  mean, median: values => quantile(values, 0.5), "middle mean": middleMean,
};
const BANDS = {
  seeds: null, interval, quartiles: values => [quantile(values, 0.25), quantile(values, 0.75)],
  range: values => [least(values), greatest(values)], none: null,
};
const SUMMED = {quartiles: ["quartile 1", "quartile 3"], range: ["min", "max"]};
const AXES = {epoch: "epoch", step: "optimizer step", seconds: "seconds of training"};
const CLOCK_SAID = "Seconds are those of training up to an epoch, the first one included, mean over"
  + " the seeds; runs that shared the machine are left out.";
const SUMMED_SAID = "The seeds are not held one by one: there are mean, median, quartiles, least"
  + " and greatest of them.";
const PANEL = 340, GAP = 54, HEAD = 36, FOOT = 60;

/** The bundles of a view: for each cell its lines over x, as numbers. */
function chosenCurves(study, view) {
  const number = study.curve_metrics.findIndex(metric => metric.name === view.curve);
  const tasks = places(study.tasks, view.tasks), methods = places(study.methods, view.methods);
  return study.curves.filter(each => each.metric === number).sort((a, b) => a.cell - b.cell)
    .filter(each => tasks.includes(study.cells[each.cell].task))
    .filter(each => methods.includes(study.cells[each.cell].method))
    .filter(each => inMode(study, view, study.cells[each.cell], each.mode))
    .map(each => bundle(study, view, each)).filter(Boolean);
}

/** One cell's lines over x, with their centre and band; null where it has no such x. */
function bundle(study, view, curve) {
  const found = withX(study, view, curve);
  if (!found || !found.epochs.length) return null;
  const summed = typeof curve.lines[0] === "string";
  const across = of => acrossSeeds(found, of);
  return {
    cell: study.cells[curve.cell], mode: curve.mode === null ? "" : study.modes[curve.mode],
    step: curve.step, summed, epochs: found.epochs, x: average(found.xs),
    n: summed ? curve.n : found.lines.length,
    seeds: summed ? [] : found.lines.map((line, place) => ({...line, x: found.xs[place]})),
    centre: summed ? summedLine(found, view.aggregate) : across(AGGREGATES[view.aggregate]),
    band: summed ? summedBand(found, view.band) : bandOf(study, curve, found, view.band),
  };
}

/** The lines of a curve with the x of each; of the seeds that have one. */
function withX(study, view, curve) {
  const epochs = study.epochs[curve.epochs];
  const lines = curve.lines.map((name, place) => ({name, y: curve.values[place]}));
  if (view.x !== "seconds") {
    const steps = view.x === "step" ? study.cells[curve.cell].steps : 1;
    return steps ? {epochs, lines, xs: lines.map(() => epochs.map(epoch => epoch * steps))} : null;
  }
  return onClock(study, curve, epochs, lines);
}

function onClock(study, curve, epochs, lines) {
  const clock = study.clocks.find(each => each.cell === curve.cell);
  if (!clock) return null;
  const known = study.epochs[clock.epochs], kept = epochs.filter(epoch => known.includes(epoch));
  const at = (list, all) => kept.map(epoch => list[all.indexOf(epoch)]);
  const timed = name => typeof name === "string" || clock.lines.includes(name);
  const mine = lines.filter(line => timed(line.name));
  const xs = mine.map(line => at(clock.values[Math.max(0, clock.lines.indexOf(line.name))], known));
  return {epochs: kept, lines: mine.map(line => ({...line, y: at(line.y, epochs)})), xs};
}

const average = lines =>
  (lines[0] || []).map((_, place) => mean(lines.map(line => line[place])));

/** A function of the seeds' values in each epoch; null where a value is missing. */
function acrossSeeds(found, of) {
  return found.epochs.map((_, place) => {
    const values = found.lines.map(line => line.y[place]);
    return values.length && !values.includes(null) ? of(values) : null;
  });
}

function bandOf(study, curve, found, name) {
  if (!BANDS[name] || found.lines.length < 2) return null;
  const metric = study.curve_metrics[curve.metric];
  const ends = acrossSeeds(found, values => within(metric, BANDS[name](values)));
  return ends.some(Boolean) ? ends.map(end => end || [null, null]) : null;
}

function summedLine(found, name) {
  const line = found.lines.find(each => each.name === name);
  return line ? line.y : found.lines.find(each => each.name === "mean").y;
}

function summedBand(found, name) {
  if (!SUMMED[name]) return null;
  const [low, high] = SUMMED[name].map(end => found.lines.find(line => line.name === end).y);
  return low.map((value, place) => [value, high[place]]);
}

/** The drawing of a view, as plotly has it. */
function curvesDrawing(study, view, bundles) {
  const metric = study.curve_metrics.find(each => each.name === view.curve);
  const tasks = [...new Set(bundles.map(each => each.cell.task))];
  const log = isLog(view, metric), named = new Set();
  const traces = bundles.flatMap(each => {
    const panel = tasks.indexOf(each.cell.task) + 1, method = study.methods[each.cell.method];
    const lines = bundleTraces(metric, view, each, method, log);
    for (const line of lines) {
      Object.assign(line, {
        xaxis: axis("x", panel), yaxis: axis("y", panel), legendgroup: method.name,
        showlegend: Boolean(line.name) && !named.has(method.name),
      });
    }
    named.add(method.name);
    return lines;
  });
  const layout = curvesLayout(study, view, metric, tasks, log, decadesOf(bundles));
  if (view.x === "epoch") wholeEpochs(layout, greatest(bundles.flatMap(each => each.epochs)));
  return {data: traces, layout};
}

/** Of up to 12 epochs each has its tick; plotly would put some between them. */
function wholeEpochs(layout, last) {
  if (last > 12) return;
  for (const name of Object.keys(layout)) if (name.startsWith("xaxis")) layout[name].dtick = 1;
}

const isLog = (view, metric) => view.scale ? view.scale === "log" : metric.log;

/** Over how many powers of ten the lines go; where these are few there are ticks between them. */
function decadesOf(bundles) {
  const values = bundles.flatMap(each => each.centre).filter(value => value > 0);
  return values.length ? Math.log10(greatest(values) / least(values)) : 0;
}

const axis = (letter, panel) => panel === 1 ? letter : letter + panel;

function bundleTraces(metric, view, each, method, log) {
  const drawable = values => values.map(value => log && value <= 0 ? null : value);
  const look = {color: method.colour, dash: method.dash};
  const mode = each.epochs.length > 1 ? "lines" : "markers", name = shown(method.name);
  const value = `%{y:.4~g}${metric.unit === "%" ? " %" : ""}`;
  const hover = what => `${name}, ${what}<br>${AXES[view.x]} %{x}: ${value}<extra></extra>`;
  const seeds = view.band === "seeds" && each.seeds.length > 1 ? each.seeds : [];
  const faint = seeds.map(seed => ({
    type: "scatter", x: seed.x, y: drawable(seed.y), mode, opacity: 0.3, line: {...look, width: 1},
    hovertemplate: hover(`seed ${seed.name}`),
  }));
  const strong = {
    type: "scatter", x: each.x, y: drawable(each.centre), mode, name, line: {...look, width: 2.5},
    marker: {symbol: method.symbol, size: 8},
    hovertemplate: hover(`${view.aggregate} of n = ${each.n}`),
  };
  return [...faint, ...bandTraces(each, method, log), strong];
}

/** A band is two lines without ink, filled between; what a logarithm cannot show is left out. */
function bandTraces(each, method, log) {
  const kept = (each.band || []).map((ends, place) => [each.x[place], ...ends])
    .filter(point => point[1] !== null && (!log || point[1] > 0));
  if (!kept.length) return [];
  const line = {width: kept.length > 1 ? 0 : 4, color: method.colour};
  const end = (place, fill) => ({
    type: "scatter", mode: "lines",
    x: kept.map(point => point[0]), y: kept.map(point => point[place]), line,
    fill, fillcolor: method.colour + "30", hoverinfo: "skip",
  });
  return [end(1, "none"), end(2, "tonexty")];
}

function curvesLayout(study, view, metric, tasks, log, decades) {
  const panels = tasks.length, total = panels * PANEL + (panels - 1) * GAP;
  const note = notesSaid(study, tasks), head = HEAD + (note ? 20 : 0);
  const layout = {
    height: total + head + FOOT + 50, hovermode: "closest", showlegend: true,
    margin: {l: 60, r: 15, t: head, b: FOOT + 50}, annotations: note ? [noted(note)] : [],
    legend: {orientation: "h", yref: "container", y: 0, yanchor: "bottom", x: 0},
  };
  tasks.forEach((task, place) => {
    const top = 1 - place * (PANEL + GAP) / total, domain = [Math.max(0, top - PANEL / total), top];
    const number = place ? place + 1 : "";
    layout[`xaxis${number}`] = {
      anchor: axis("y", place + 1), title: {text: place === panels - 1 ? AXES[view.x] : ""},
      ...(place ? {matches: "x"} : {}),
    };
    layout[`yaxis${number}`] = {
      anchor: axis("x", place + 1), domain, type: log ? "log" : "linear",
      title: {text: measureSaid(metric)},
      ...(log ? {exponentformat: "power", dtick: decades < 2 ? "D2" : 1} : {}),
    };
    if (panels > 1) layout.annotations.push(heading(shown(study.tasks[task].name), top));
  });
  return layout;
}

function measureSaid(metric) {
  if (metric.unit === "%") return `${metric.label} in %`;
  return metric.unit ? `${metric.label}: ${metric.unit}` : metric.label;
}

/** What sets the data of tasks apart; it stands in the drawing, so that a picture has it too. */
function notesSaid(study, tasks) {
  const apart = tasks.map(task => study.tasks[task]).filter(task => task.note);
  return apart.map(task => `${task.name}: ${task.note}`).join("; ");
}

const noted = text => ({
  text: shown(text), x: 0, y: 1, yshift: 20, xref: "paper", yref: "paper", xanchor: "left",
  yanchor: "bottom", showarrow: false, font: {size: 12},
});

const heading = (text, y) => ({
  text, x: 0.5, y, xref: "paper", yref: "paper", xanchor: "center", yanchor: "bottom",
  showarrow: false, font: {size: 12},
});

/** How to read the curves, in sentences. */
function curvesSaid(study, view, bundles) {
  const metric = study.curve_metrics.find(each => each.name === view.curve);
  const around = {
    seeds: "faint lines are the seeds", interval: "the band is the 95 % interval of the mean",
    quartiles: "the band is from the first to the third quartile",
    range: "the band is from the least to the greatest", none: "nothing else is drawn",
  };
  const modes = metric.modal ? `, ${modeSaid(view)}` : "";
  const said = [
    `${capital(metric.label)}${modes}: strong lines are the ${view.aggregate} over the seeds,`
      + ` ${around[view.band]}.`,
  ];
  if (view.x === "seconds") said.push(CLOCK_SAID);
  if (isLog(view, metric)) said.push("What is not above 0 leaves a gap on the logarithmic axis.");
  const there = new Set(bundles.map(each => study.methods[each.cell.method].name));
  const missing = view.methods.filter(name => !there.has(name));
  if (missing.length) said.push(`Without such a curve: ${missing.join(", ")}.`);
  const step = Math.max(1, ...bundles.map(each => each.step));
  if (step > 1) said.push(`One epoch in ${step} is in the data, and the last.`);
  if (bundles.some(each => each.summed)) said.push(SUMMED_SAID);
  return said.join(" ");
}

/** The text alternative in a sentence: where the lines end, from the lowest to the highest. */
function curvesSentence(study, view, bundles) {
  const metric = study.curve_metrics.find(each => each.name === view.curve);
  const several = new Set(bundles.map(each => each.cell.task)).size > 1;
  const ends = bundles.map(({cell, centre, n}) => ({
    value: centre.findLast(value => value !== null), n,
    name: study.methods[cell.method].name + (several ? ` on ${study.tasks[cell.task].name}` : ""),
  })).filter(end => end.value !== undefined).sort((one, other) => one.value - other.value);
  if (!ends.length) return `${capital(measureSaid(metric))}: nothing is drawn.`;
  const said = end => `${told(metric, end.value)} (${end.name}, n = ${end.n})`;
  const begin = `${capital(measureSaid(metric))}, ${view.aggregate} over the seeds, at the end of`;
  if (ends.length === 1) return `${begin} 1 line: ${said(ends[0])}.`;
  const [high, low] = [said(ends.at(-1)), said(ends[0])];
  return `${begin} ${ends.length} lines: the highest is ${high}, the lowest ${low}.`;
}

/** The text alternative in full: where each line begins, where it ends, and its best or least. */
function curvesTable(study, view, bundles) {
  const metric = study.curve_metrics.find(each => each.name === view.curve);
  const best = metric.better > 0 ? greatest : least;
  const which = metric.better > 0 ? "greatest" : "least";
  const columns = ["task", "method", "n", "first", "last", which, `at ${AXES[view.x]}`];
  const lines = bundles.map(each => {
    const values = each.centre.filter(value => value !== null);
    const extreme = values.length ? best(values) : null;
    const at = each.x[each.centre.indexOf(extreme)];
    return [
      study.tasks[each.cell.task].name, study.methods[each.cell.method].name, String(each.n),
      told(metric, values[0] ?? null), told(metric, values.at(-1) ?? null), told(metric, extreme),
      at === undefined ? "–" : shortened(at),
    ];
  });
  return {columns, lines, numeric: 2};
}

/** All that is drawn, a row for each point. */
function curvesRows(study, view, bundles) {
  const x = view.x === "epoch" ? "x" : view.x;
  const rows = [["task", "method", "mode", "metric", "line", "epoch", x, "value"]];
  for (const each of bundles) {
    const {task, method} = each.cell;
    const place = [study.tasks[task].name, study.methods[method].name, each.mode, view.curve];
    for (const line of allLines(view, each)) {
      each.epochs.forEach((epoch, at) =>
        rows.push([...place, line.name, epoch, line.x[at], line.y[at]]));
    }
  }
  return rows;
}

/** The lines of a bundle as they are drawn: the aggregate, then the seeds or the band's ends. */
function allLines(view, each) {
  const seeds = each.seeds.map(seed => ({...seed, name: `seed ${seed.name}`}));
  const ends = ["low", "high"].map((end, at) => ({
    name: `${view.band} ${end}`, x: each.x, y: (each.band || []).map(pair => pair[at]),
  }));
  const around = view.band === "seeds" ? seeds : each.band ? ends : [];
  return [{name: view.aggregate, x: each.x, y: each.centre}, ...around];
}
