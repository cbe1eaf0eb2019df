// Tables in the order of a column: a click on its head, once more for the other way round, a third
// time for the order at first. Numbers begin with the greatest, texts with the first of the
// alphabet; what is missing stands last either way.

const WAYS = {
  number: {none: "descending", descending: "ascending", ascending: "none"},
  text: {none: "ascending", ascending: "descending", descending: "none"},
};
const GONE = new Set(["", "–"]);

/** Gives each head of a table a button that sorts it; ``order`` is the one to begin with. */
function sortable(table, order = {column: 0, way: "none"}, changed = () => {}) {
  const groups = groupsOf(table.tBodies[0]), heads = table.tHead ? table.tHead.rows[0].cells : [];
  if (groups.length < 2) return table;
  const sortBy = (column, way) => {
    for (const head of heads) head.removeAttribute("aria-sort");
    if (way !== "none") heads[column].setAttribute("aria-sort", way);
    table.tBodies[0].append(...ordered(groups, column, way).flat());
  };
  Array.from(heads).forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.textContent = head.textContent;
    button.addEventListener("click", () => {
      const kind = head.classList.contains("number") ? "number" : "text";
      const way = WAYS[kind][head.getAttribute("aria-sort") || "none"];
      sortBy(column, way);
      changed({column, way});
    });
    head.replaceChildren(button);
  });
  if (order.column < heads.length) sortBy(order.column, order.way);
  return table;
}

/** A body's rows, the faint ones with the row that they belong to. */
function groupsOf(body) {
  const groups = [];
  for (const row of body.rows) {
    if (row.classList.contains("faint") && groups.length) groups.at(-1).push(row);
    else groups.push([row]);
  }
  return groups;
}

function ordered(groups, column, way) {
  if (way === "none") return groups;
  const value = group => group[0].cells[column].textContent.trim();
  const there = groups.filter(group => !GONE.has(value(group)));
  const sign = way === "ascending" ? 1 : -1;
  const sorted = there.sort((a, b) => sign * compared(value(a), value(b)));
  return [...sorted, ...groups.filter(group => GONE.has(value(group)))];
}

/** By the numbers that two texts begin with, by their letters where one has none. */
function compared(one, other) {
  const [a, b] = [numberOf(one), numberOf(other)];
  const numeric = !Number.isNaN(a) && !Number.isNaN(b);
  return numeric ? a - b : one.localeCompare(other, "en", {numeric: true});
}

const numberOf = text => Number.parseFloat(text.replace(/^[<>] ?/, "").replace("−", "-")
  .replaceAll(",", ""));
