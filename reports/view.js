// The view: what is chosen on the page. A URL holds it whole, after "?" in the part behind "#";
// what is as it was at first is left out of the URL.

const LISTS = ["methods", "tasks"];

/** The view at first: all methods and tasks, each method as it is judged, every seed. */
function firstView(study) {
  return {
    methods: study.methods.map(method => method.name),
    tasks: study.tasks.map(task => task.name),
    mode: "", metric: first(study.metrics), reference: study.study.reference,
    curve: first(study.curve_metrics), x: "epoch", aggregate: "mean", band: "seeds",
    scale: "", theme: "",
  };
}

const first = metrics => metrics.length ? metrics[0].name : "";

/** What a choice may be; anything else in a URL is passed over. */
function choices(study) {
  const names = list => list.map(each => each.name);
  return {
    methods: names(study.methods), tasks: names(study.tasks), mode: ["", ...study.modes],
    metric: names(study.metrics), reference: ["", ...names(study.methods)],
    curve: names(study.curve_metrics), x: ["epoch", "step", "seconds"],
    aggregate: Object.keys(AGGREGATES), band: Object.keys(BANDS), scale: ["", "linear", "log"],
    theme: ["", "light", "dark"],
  };
}

/** The view that a URL's part behind "#" stands for, and the section that it leads to. */
function readView(study, hash) {
  const [section, query = ""] = hash.replace(/^#/, "").split(/\?(.*)/s);
  const view = firstView(study), allowed = choices(study);
  for (const [name, text] of new URLSearchParams(query)) {
    if (!Object.hasOwn(allowed, name)) continue;
    if (LISTS.includes(name)) {
      const wanted = text.split(",").map(decoded);
      view[name] = allowed[name].filter(each => wanted.includes(each));
    } else if (allowed[name].includes(text)) view[name] = text;
  }
  return {view, section};
}

function decoded(text) {
  try { return decodeURIComponent(text); } catch { return text; }
}

/** The part of a URL from "#" on that stands for a view. */
function writtenView(study, view, section) {
  const query = new URLSearchParams(), usual = firstView(study);
  for (const [name, value] of Object.entries(view)) {
    const text = LISTS.includes(name) ? value.map(encodeURIComponent).join(",") : value;
    const same = LISTS.includes(name) ? value.length === usual[name].length : value === usual[name];
    if (!same) query.set(name, text);
  }
  const said = query.toString();
  return `#${section}${said ? "?" + said : ""}`;
}

/** In words which part of the study is shown; nothing where all of it is. */
function partSaid(study, view) {
  const parts = LISTS.filter(name => view[name].length < study[name].length);
  return parts.map(name => `${view[name].length} of ${study[name].length} ${name}`).join(", ");
}
