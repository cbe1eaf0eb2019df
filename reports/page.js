// The page: controls and URL set the view, the view is drawn.

const PAPER = 680, MOST = 500;
const darkness = window.matchMedia("(prefers-color-scheme: dark)");
const byId = id => document.getElementById(id);
const all = selector => Array.from(document.querySelectorAll(selector));
const study = JSON.parse(byId("report").textContent);
const explore = byId("explore"), form = byId("controls");
let {view, section} = readView(study, location.hash);

const dark = () => view.theme ? view.theme === "dark" : darkness.matches;

// -- the figures ----------------------------------------------------------------------------------

/** What is drawn in an element: its own drawing, or the curves of a view. */
function drawingOf(plot) {
  if (plot.dataset.spec) return JSON.parse(byId(plot.dataset.spec).textContent);
  const seen = plot.dataset.curve ? {...firstView(study), curve: plot.dataset.curve} : view;
  return curvesDrawing(study, seen, chosenCurves(study, seen));
}

function drawPlot(plot, inDark, width) {
  try {
    draw(plot, drawingOf(plot), inDark, width);
  } catch (error) {
    plot.textContent = "This figure could not be drawn: " + error;
    plot.style.minHeight = "0";
  }
}

// a figure is drawn when it comes near the window, for drawing all of them takes seconds
const near = new Set(), current = new Set();
const watch = new IntersectionObserver(seen => seen.forEach(cameNear), {rootMargin: "800px"});

function cameNear({target, isIntersecting}) {
  if (isIntersecting) near.add(target); else near.delete(target);
  drawNear();
}

function drawNear() {
  for (const plot of near) {
    if (current.has(plot)) continue;
    drawPlot(plot, dark());
    current.add(plot);
    if (plot.id === "curves" && !plot.dataset.listens) listen(plot);
  }
}

/** A click on the legend chooses as the box of the method does. */
function listen(plot) {
  plot.on("plotly_legendclick", event => toggle(event.data[event.curveNumber].legendgroup));
  plot.dataset.listens = "yes";
}

/** Draws again what is drawn: all of it, or one figure. */
function redraw(plot) {
  if (plot) current.delete(plot); else current.clear();
  drawNear();
}

function rowsOf(plot) {
  if (plot.id !== "curves") return drawingRows(drawingOf(plot));
  return curvesRows(study, view, chosenCurves(study, view));
}

/** The table beside a figure, made when it is opened; of very many points the first. */
function showRows(details) {
  const [columns, ...rows] = rowsOf(byId(details.dataset.of)), count = rows.length;
  const said = cell => cell === null ? "–" : String(cell);
  const lines = rows.slice(0, MOST).map(row => row.map(said));
  const part = `The first ${MOST} of ${count} points; the CSV has all.`;
  const caption = count > MOST ? part : `${count} points.`, numeric = columns.length - 2;
  const box = details.querySelector(".scroll");
  box.replaceChildren(tableOf({columns, lines, numeric, caption}));
}

// -- the selection --------------------------------------------------------------------------------

let order;  // of the selection's table, which is made anew with every change

function showSelection() {
  const any = view.methods.length && view.tasks.length, part = partSaid(study, view);
  const none = "Nothing is selected: choose a method and a task.";
  byId("part").textContent = part ? `a part of the study: ${part}` : "";
  byId("selection-said").textContent = any ? selectionSaid(study, view) : none;
  const table = selectionTable(study, view);
  const drawn = () => sortable(coloured(tableOf(table), table.methods), order, now => {
    order = now;
  });
  byId("selection-table").replaceChildren(any ? drawn() : "");
}

/** The table with each method's colour beside its name. */
function coloured(table, methods) {
  Array.from(table.tBodies[0].rows).forEach((row, place) => {
    const mark = document.createElement("span");
    mark.className = "mark";
    mark.style.background = study.methods[methods[place]].colour;
    row.cells[1].prepend(mark);
  });
  return table;
}

function showCurves() {
  const plot = byId("curves");
  if (!plot) return;
  const bundles = chosenCurves(study, view);
  byId("curves-said").textContent = curvesSaid(study, view, bundles);
  byId("curves-table").replaceChildren(tableOf(curvesTable(study, view, bundles)));
  plot.setAttribute("aria-label", curvesSentence(study, view, bundles));
  plot.hidden = !bundles.length;
  if (!bundles.length) return;
  plot.style.minHeight = curvesDrawing(study, view, bundles).layout.height + "px";
  redraw(plot);
}

/** Hides a method, or shows it again. */
function toggle(method) {
  const others = view.methods.filter(name => name !== method);
  const kept = others.length < view.methods.length ? others : [...others, method];
  change({methods: study.methods.map(each => each.name).filter(name => kept.includes(name))});
  return false;
}

// -- controls and URL -----------------------------------------------------------------------------

function change(values) {
  view = {...view, ...values};
  writeUrl();
  show();
}

function writeUrl() {
  const written = writtenView(study, view, section);
  try {
    history.replaceState(null, "", written);
  } catch {
    location.hash = written;  // where a page may not write its history
  }
}

function show() {
  document.documentElement.dataset.theme = view.theme;
  byId("theme").textContent = dark() ? "Light" : "Dark";
  if (!explore) return;
  setControls();
  showSelection();
  showCurves();
}

function setControls() {
  for (const box of form.querySelectorAll("input")) {
    box.checked = view[box.name].includes(box.value);
  }
  for (const list of form.querySelectorAll("select")) list.value = view[list.name];
}

function readControls() {
  const boxes = Array.from(form.querySelectorAll("input"));
  const chosen = name =>
    boxes.filter(box => box.name === name && box.checked).map(box => box.value);
  const boxed = LISTS.filter(name => boxes.some(box => box.name === name));  // one task has no box
  const lists = Object.fromEntries(boxed.map(name => [name, chosen(name)]));
  const others = Array.from(form.querySelectorAll("select"), list => [list.name, list.value]);
  change({...lists, ...Object.fromEntries(others)});
}

/** Goes to a section; the view stays in the URL. */
function goTo(name) {
  section = name;
  writeUrl();
  const place = byId(name);
  if (place) place.scrollIntoView();
}

function fromUrl() {
  ({view, section} = readView(study, location.hash));
  show();
  redraw();
  if (section && byId(section)) byId(section).scrollIntoView();
}

// -- files ----------------------------------------------------------------------------------------

const FILES = {
  csv: plot => save(fileName(plot) + ".csv", "text/csv", csvOf(rowsOf(plot))),
  svg: async plot => save(fileName(plot) + ".svg", "image/svg+xml", await svgOf(drawingOf(plot))),
  selection: () =>
    save(`${study.study.name}-selection.csv`, "text/csv", csvOf(selectionFile(study, view))),
};

const fileName = plot => `${study.study.name}-${plot.dataset.name || view.curve}`;

// -- print ----------------------------------------------------------------------------------------

let opened = [];

function beforePrint() {
  opened = all("details:not([open], .alternative)");
  for (const details of opened) details.open = true;
  document.documentElement.classList.add("printing");
  for (const plot of all(".plot")) if (!plot.hidden) drawPlot(plot, false, PAPER);
}

function afterPrint() {
  for (const details of opened) details.open = false;
  document.documentElement.classList.remove("printing");
  redraw();
}

// -- all of it ------------------------------------------------------------------------------------

document.documentElement.classList.add("live");
for (const part of all("[data-live]")) part.hidden = false;
for (const table of all("main section > .scroll > table")) sortable(table);
for (const details of all("details[data-of]")) {
  details.addEventListener("toggle", () => details.open && showRows(details));
}
for (const button of all("button[data-file]")) {
  const {file, of} = button.dataset;
  button.addEventListener("click", () => FILES[file](byId(of)));
}
for (const link of all("nav a")) {
  link.addEventListener("click", event => {
    event.preventDefault();
    goTo(link.getAttribute("href").slice(1));
  });
}
byId("theme").addEventListener("click", () => {
  const wanted = !dark();
  change({theme: wanted === darkness.matches ? "" : wanted ? "dark" : "light"});
  redraw();
});
if (form) {
  form.addEventListener("change", readControls);
  form.addEventListener("submit", event => event.preventDefault());
  form.addEventListener("click", event => {
    const name = event.target.dataset.all;
    const whole = name && view[name].length === study[name].length;
    if (name) change({[name]: whole ? [] : firstView(study)[name]});
    if (event.target.id === "reset") change({...firstView(study), theme: view.theme});
  });
}
window.addEventListener("hashchange", fromUrl);
darkness.addEventListener("change", () => { show(); redraw(); });
window.addEventListener("beforeprint", beforePrint);
window.addEventListener("afterprint", afterPrint);
fromUrl();
for (const plot of all(".plot")) watch.observe(plot);
