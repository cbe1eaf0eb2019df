// The selection: means, intervals, differences and ranks of what is chosen.
// A method half or more of whose runs on a task failed or diverged ranks last there.

/** The scores of a metric in the chosen mode, by "task method", each by seed. */
function chosenScores(study, view) {
  const number = study.metrics.findIndex(metric => metric.name === view.metric), found = new Map();
  for (const each of study.scores) {
    const cell = study.cells[each.cell];
    if (each.metric !== number || !inMode(study, view, cell, each.mode)) continue;
    const pairs = cell.seeds.map((seed, place) => [seed, each.values[place]]);
    found.set(key(cell.task, cell.method), new Map(pairs.filter(pair => pair[1] !== null)));
  }
  return found;
}

const key = (task, method) => `${task} ${method}`;

/** Whether values in a mode (null: of a metric without modes) are those that the view shows. */
function inMode(study, view, cell, mode) {
  return mode === null || (view.mode ? study.modes[mode] === view.mode : mode === cell.judged);
}

const places = (all, chosen) =>
  all.map((each, place) => place).filter(place => chosen.includes(all[place].name));

/** A line for each chosen method on each chosen task. */
function selectionRows(study, view) {
  const scores = chosenScores(study, view), shown = places(study.methods, view.methods);
  const reference = study.methods.findIndex(method => method.name === view.reference);
  const rows = places(study.tasks, view.tasks).flatMap(task => {
    const theirs = scores.get(key(task, reference)) || new Map();
    const asked = shown.filter(method => cellOf(study, task, method));
    const mine = asked.map(method =>
      selectionRow(study, scores, task, method, theirs, reference));
    return withRanks(study, view, mine);
  });
  const pairs = rows.filter(row => row.differences.length);
  const ps = corrected(pairs.map(row => row.differences));
  pairs.forEach((row, place) => { row.p = ps[place]; });
  return rows;
}

function selectionRow(study, scores, task, method, theirs, reference) {
  const mine = scores.get(key(task, method)) || new Map(), values = [...mine.values()];
  const common = method === reference ? [] : [...mine.keys()].filter(seed => theirs.has(seed));
  const differences = common.map(seed => mine.get(seed) - theirs.get(seed));
  return {
    task, method, n: values.length, mean: values.length ? mean(values) : null,
    sd: deviation(values), interval: within(metricOf(study, view), interval(values)), isReference: method === reference,
    differences, difference: differences.length ? mean(differences) : null,
    between: interval(differences), p: null, rank: null,
    endedBadly: endedBadly(study, task, method),
  };
}

const metricOf = (study, view) => study.metrics.find(metric => metric.name === view.metric);

/** The part of an interval that a mean can have: percentages lie between 0 and 100. */
function within(metric, ends) {
  if (!ends || metric.unit !== "%") return ends;
  return [Math.max(ends[0], 0), Math.min(ends[1], 100)];
}

const cellOf = (study, task, method) =>
  study.cells.find(each => each.task === task && each.method === method);

function endedBadly(study, task, method) {
  const cell = cellOf(study, task, method), bad = cell.failed + cell.diverged;
  return bad > 0 && 2 * bad >= cell.asked;
}

/** The rows of a task with their ranks, 1 the best; none where better has no meaning. */
function withRanks(study, view, rows) {
  const {better} = metricOf(study, view);
  const ranked = better ? rows.filter(row => row.endedBadly || row.mean !== null) : [];
  const ranks = midranks(ranked.map(row => row.endedBadly ? Infinity : -better * row.mean));
  ranked.forEach((row, place) => { row.rank = ranks[place]; });
  return rows;
}

/** The mean rank of each method over the tasks on which all of them have a rank. */
function meanRanks(rows) {
  const byTask = Map.groupBy ? Map.groupBy(rows, row => row.task) : grouped(rows);
  const methods = [...new Set(rows.map(row => row.method))];
  const whole = [...byTask.values()].filter(mine =>
    mine.length === methods.length && mine.every(row => row.rank !== null));
  const ranks = methods.map(method => ({
    method, ranks: whole.map(mine => mine.find(row => row.method === method).rank),
  }));
  return {
    tasks: whole.length, left: byTask.size - whole.length,
    methods: ranks.map(each => ({
      method: each.method, rank: each.ranks.length ? mean(each.ranks) : null,
      first: each.ranks.filter(rank => rank === 1).length,
    })),
  };
}

function grouped(rows) {
  const found = new Map();
  for (const row of rows) found.set(row.task, [...(found.get(row.task) || []), row]);
  return found;
}

/** The selection as a table of texts: columns, which of them are numbers, and rows. */
function selectionTable(study, view) {
  const metric = metricOf(study, view);
  const several = places(study.tasks, view.tasks).length > 1;
  const against = view.reference ? `− ${view.reference}` : "";
  const rows = selectionRows(study, view);
  const means = new Map(meanRanks(rows).methods.map(each => [each.method, each.rank]));
  const columns = [
    "task", "method", "n", `mean${metric.unit ? ", " + metric.unit : ""}`, "sd", "95 % interval",
    ...(metric.better ? ["rank", ...(several ? ["mean rank"] : [])] : []),
    ...(against ? [against, "95 % interval of the difference", "p (Holm)"] : []),
  ];
  const lines = rows.map(row => [
    taskSaid(study.tasks[row.task]), study.methods[row.method].name, String(row.n),
    told(metric, row.mean), told(metric, row.sd), between(metric, row.interval),
    ...(metric.better ? [rankSaid(row.rank, 1)] : []),
    ...(metric.better && several ? [rankSaid(means.get(row.method), 2)] : []),
    ...(against ? differenceCells(metric, row) : []),
  ]);
  return {columns, lines, methods: rows.map(row => row.method), numeric: 2};
}

/** The selection as rows of a file: every number with all its digits. */
function selectionFile(study, view) {
  const columns = ["task", "method", "mode", "metric", "n", "mean", "sd", "low", "high", "rank"];
  const against = ["reference", "pairs", "difference"];
  against.push("difference_low", "difference_high", "p_holm");
  const rows = selectionRows(study, view).map(row => [
    study.tasks[row.task].name, study.methods[row.method].name,
    view.mode || "as judged", view.metric,
    row.n, row.mean, row.sd, ...(row.interval || [null, null]), row.rank, view.reference,
    row.differences.length, row.difference, ...(row.between || [null, null]),
    typeof row.p === "number" ? row.p : null,
  ]);
  return [[...columns, ...against], ...rows];
}

const taskSaid = task => task.note ? `${task.name} (${task.note})` : task.name;

function differenceCells(metric, row) {
  if (row.isReference) return ["reference", "", ""];
  if (!row.differences.length) return ["–", "–", row.n ? "no common seed" : "–"];
  const p = typeof row.p === "string" ? row.p : Number(row.p.toPrecision(2)).toString();
  return [told(metric, row.difference, true), between(metric, row.between, true), p];
}

const rankSaid = (rank, digits) => rank === null || rank === undefined ? "–"
  : Number.isInteger(rank) && digits === 1 ? String(rank) : rank.toFixed(digits);

/** A number of a metric: percents with two decimals, others with three digits. */
function told(metric, value, signed = false) {
  if (value === null) return "–";
  const text = metric.unit === "%" ? Math.abs(value).toFixed(2) : shortened(Math.abs(value));
  const sign = value < 0 ? "−" : signed ? "+" : "";
  return sign + text;
}

function shortened(value) {
  if (value === 0 || (value >= 0.001 && value < 10000)) return String(Number(value.toPrecision(3)));
  return value.toExponential(2);
}

function between(metric, ends, signed = false) {
  return ends ? ends.map(end => told(metric, end, signed)).join(" to ") : "–";
}

/** What must be known to read the table, in sentences. */
function selectionSaid(study, view) {
  const metric = metricOf(study, view);
  const rows = selectionRows(study, view);
  const tested = rows.filter(row => typeof row.p === "number").length;
  const ranks = meanRanks(rows);
  const said = [`${capital(metric.label)}${metric.modal ? `, ${modeSaid(view)}` : ""}.`];
  if (!metric.better) said.push("More flips are neither better nor worse, so nothing is ranked.");
  else if (ranks.left) {
    said.push(`Mean ranks are over the ${ranks.tasks} of the chosen tasks on which every chosen`
      + " method has a value.");
  }
  const holms = tested ? `; Holm’s correction is over the ${tested} tests of this table` : "";
  const from = `Differences are from ${view.reference} with the same seed`;
  if (view.reference) said.push(`${from}${holms}.`);
  return said.join(" ");
}

const capital = text => text.charAt(0).toUpperCase() + text.slice(1);
const modeSaid = view =>
  view.mode ? `all with ${view.mode} weights` : "each method as it is judged";
