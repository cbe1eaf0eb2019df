// Files made in the browser, and tables from rows.

// what a spreadsheet would compute gets an apostrophe before it, as in "bnnbench study export"
const FORMULA = /^[=+\-@\t\r\n']/;

/** Rows as CSV; numbers have all their digits, what is missing is empty. */
function csvOf(rows) {
  return rows.map(row => row.map(csvCell).join(",") + "\r\n").join("");
}

function csvCell(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "";
  if (typeof value === "number") return String(value);
  const text = FORMULA.test(value) ? "'" + value : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Lets the browser save a text under a name. */
function save(name, kind, text) {
  const address = URL.createObjectURL(new Blob([text], {type: kind}));
  const link = document.createElement("a");
  link.href = address;
  link.download = name.replace(/[^\p{L}\p{N}._-]+/gu, "-");
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

/** A table element; the columns from ``numeric`` on are numbers. */
function tableOf({columns, lines, numeric, caption}) {
  const table = document.createElement("table");
  if (caption) table.createCaption().textContent = caption;
  const head = table.createTHead().insertRow(), body = table.createTBody();
  columns.forEach((text, place) => {
    const cell = document.createElement("th");
    cell.scope = "col";
    head.append(filled(cell, text, place >= numeric));
  });
  for (const line of lines) {
    const row = body.insertRow();
    line.forEach((text, place) => filled(row.insertCell(), text, place >= numeric));
  }
  return table;
}

function filled(cell, text, number) {
  cell.textContent = text;
  if (number) cell.className = "number";
  return cell;
}
