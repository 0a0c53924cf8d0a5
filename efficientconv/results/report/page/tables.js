// Tables that the reader can sort by a click on a column's name and save as CSV, and the tables of the tiers.

const isEmpty = (value) => value === "" || value === null || value === undefined;
const isNumber = (value) => !isEmpty(value) && !Number.isNaN(Number(value));
const LONG = 28; // characters; a column with longer cells is wrapped
const FORMULA = /^'*[=+@＝＋－＠-]/; // texts that a spreadsheet would compute; csv_files.py has the same rule
const SHORT = { "\n": "\\n", "\r": "\\r", "\t": "\\t" }; // escapes

const takeaways = new Map(); // by a table's name: the columns and rows that the table shows now

const note = (says) => element("p", { className: "note" }, says);

// A column is {title, about, value(row), show(row)}. Rows are sorted by `value`. `show` gives the text or element to
// show, if it is not the value. label: for screen readers. most: the most rows that are drawn. open(row): called at a
// click on a row.
function sortableTable(label, columns, rows, { most = Infinity, open } = {}) {
  const body = element("tbody");
  const kinds = columns.map((column) => kindOf(rows.map(column.value).filter((value) => !isEmpty(value))));
  const heads = columns.map((column, i) => {
    const button = element("button", { type: "button" }, column.title);
    button.addEventListener("click", () => sortBy(column, heads[i]));
    return element("th", { scope: "col", className: kinds[i], title: column.about ?? "" }, button);
  });

  function sortBy({ value }, head) {
    const way = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", way === 1 ? "ascending" : "descending");
    fill([...rows].sort((one, other) => compare(value(one), value(other), way)));
  }

  function fill(sorted) {
    body.replaceChildren(...sorted.slice(0, most).map((row) => {
      const cell = ({ value, show = value }, i) => element("td", { className: kinds[i] }, show(row) ?? "");
      const made = element("tr", {}, ...columns.map(cell));
      if (open) made.addEventListener("click", () => open(row));
      return made;
    }));
  }

  fill(rows);
  const head = element("thead", {}, element("tr", {}, ...heads));
  const frame = { className: "scroll", tabIndex: 0, role: "region", "aria-label": label };
  return element("div", frame, element("table", { className: open ? "opens" : "" }, head, body));
}

function kindOf(values) {
  if (values.length && values.every(isNumber)) return "number";
  return values.some((value) => String(value).length > LONG) ? "long" : "";
}

// Numbers are ordered by size, words by the alphabet. Empty cells come last.
function compare(one, other, way) {
  if (isEmpty(one) || isEmpty(other)) return isEmpty(one) - isEmpty(other);
  if (isNumber(one) && isNumber(other)) return way * (one - other);
  return way * String(one).localeCompare(String(other), "en", { numeric: true });
}

// The text in one line, with an escape for each character that is not printable; text.py has the same rule.
const printable = (text) => text.replace(/(?! )[\p{C}\p{Z}]/gu, escaped);

function escaped(character) {
  const hex = character.codePointAt(0).toString(16);
  const [letter, width] = hex.length > 4 ? ["U", 8] : hex.length > 2 ? ["u", 4] : ["x", 2];
  return SHORT[character] ?? `\\${letter}${hex.padStart(width, "0")}`;
}

function csvText(columns, rows) {
  const inert = (text) => (FORMULA.test(text) && !isNumber(text) ? `'${text}` : text);
  const quoted = (value) => `"${inert(printable(String(value ?? ""))).replaceAll('"', '""')}"`;
  const lines = [columns.map((column) => column.title), ...rows.map((row) => columns.map((column) => column.value(row)))];
  return lines.map((line) => `${line.map(quoted).join(",")}\r\n`).join("");
}

for (const button of document.querySelectorAll("[data-csv]")) {
  const name = button.dataset.csv;
  button.setAttribute("aria-label", `Save the ${name} as CSV`);
  button.addEventListener("click", () => download(`${name}.csv`, csvText(...takeaways.get(name)), "text/csv"));
}

for (const made of byId("tables").querySelectorAll("table")) {
  const columns = [...made.tHead.rows[0].cells].map((head, i) => ({
    title: head.textContent,
    value: (row) => row.cells[i].dataset.value ?? row.cells[i].textContent,
    show: (row) => row.cells[i].textContent,
  }));
  made.replaceWith(sortableTable(made.parentElement.getAttribute("aria-label"), columns, [...made.tBodies[0].rows]));
}

addSection("tables", () => {
  for (const table of byId("tables").querySelectorAll("[data-tier]")) table.hidden = !passes("tier", table.dataset.tier);
});
