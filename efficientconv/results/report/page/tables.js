// Tables that sort by a click on a column's name and can be taken away as CSV, and the tiers' own tables.

const isNumber = (value) => value !== "" && value !== null && !Number.isNaN(Number(value));
const LONG = 28; // characters; such a column is wrapped
const FORMULA = /^'*[=+@＝＋－＠-]/; // what a spreadsheet would compute; results/csv_files.py has the same rule

const takeaways = new Map(); // by name: columns and rows, as the table of that name shows them now

// Columns: {title, value(row), show(row)}: what is sorted by, and what is shown (a text or an element) where that differs.
// `most`: no more rows are drawn; `open(row)`: what a click on a row does.
function sortableTable(columns, rows, { most = Infinity, open } = {}) {
  const body = element("tbody");
  const kinds = columns.map((column) => kindOf(rows.map(column.value)));
  const heads = columns.map((column, i) => {
    const button = element("button", { type: "button" }, column.title);
    const head = element("th", { scope: "col", className: kinds[i], title: column.about ?? "" }, button);
    button.addEventListener("click", () => sortBy(i));
    return head;
  });

  function sortBy(i) {
    const way = heads[i].getAttribute("aria-sort") === "ascending" ? -1 : 1;
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[i].setAttribute("aria-sort", way === 1 ? "ascending" : "descending");
    fill([...rows].sort((one, other) => compare(columns[i].value(one), columns[i].value(other), way)));
  }

  function fill(sorted) {
    body.replaceChildren(...sorted.slice(0, most).map((row) => {
      const made = element("tr", {}, ...columns.map((column, i) => cell(column, row, kinds[i])));
      if (open) made.addEventListener("click", () => open(row));
      return made;
    }));
  }

  fill(rows);
  const className = open ? "opens" : "";
  return element("table", { className }, element("thead", {}, element("tr", {}, ...heads)), body);
}

function kindOf(values) {
  const given = values.filter((value) => value !== "" && value !== null);
  if (given.length && given.every(isNumber)) return "number";
  return given.some((value) => String(value).length > LONG) ? "long" : "";
}

function cell(column, row, kind) {
  return element("td", { className: kind }, (column.show ?? column.value)(row) ?? "");
}

// Numbers by size, words by the alphabet, what is empty last.
function compare(one, other, way) {
  const empty = (value) => value === "" || value === null || value === undefined;
  if (empty(one) || empty(other)) return empty(one) - empty(other);
  if (isNumber(one) && isNumber(other)) return way * (one - other);
  return way * String(one).localeCompare(String(other), "en", { numeric: true });
}

function csvText(columns, rows) {
  const inert = (value) => (typeof value === "string" && FORMULA.test(value) && !isNumber(value) ? `'${value}` : value);
  const quoted = (value) => `"${String(inert(value) ?? "").replaceAll('"', '""')}"`;
  const lines = [columns.map((column) => column.title), ...rows.map((row) => columns.map((column) => column.value(row)))];
  return lines.map((line) => `${line.map(quoted).join(",")}\r\n`).join("");
}

for (const button of document.querySelectorAll("[data-csv]")) {
  const name = button.dataset.csv;
  button.setAttribute("aria-label", `Save the ${name} as CSV`);
  button.addEventListener("click", () => download(`${name}.csv`, csvText(...takeaways.get(name)), "text/csv"));
}

function drawTables() {
  const shownTables = DATA.tables.filter((table) => chosen("tier") || table.tier === filters.tier.value);
  byId("table-list").replaceChildren(...shownTables.flatMap(tierTable));
  if (!shownTables.length) byId("table-list").append(element("p", { className: "note" }, noTables()));
}

function noTables() {
  return DATA.tables.length ? "This tier has no tables." : "None lie beside the runs; scripts/reproduce.py writes them.";
}

function tierTable(table) {
  const filled = table.header.map((_, i) => i).filter((i) => table.rows.some((row) => row[i]));
  const columns = filled.map((i) => ({
    title: table.header[i].replaceAll("_", " "), value: (row) => row[i] ?? "", show: (row) => grouped(row[i] ?? ""),
  }));
  const head = element("h3", {}, table.title, " ", element("small", {}, `${table.tier}/${table.file}`));
  const frame = { className: "scroll", tabIndex: 0, role: "region", "aria-label": `${table.title}, ${table.file}` };
  return [head, element("div", frame, sortableTable(columns, table.rows))];
}

// 1092987904 as 1,092,987,904.
const grouped = (value) => (/^\d{5,}$/.test(value) ? Number(value).toLocaleString("en-US") : value);
