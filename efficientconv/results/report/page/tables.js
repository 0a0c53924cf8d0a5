// Tables that sort by a click on a column's name, and the tiers' own tables.

const isNumber = (value) => value !== "" && value !== null && !Number.isNaN(Number(value));
const LONG = 28; // characters; such a column is wrapped

// Columns: {title, value(row), show(row)}: what is sorted by, and what is shown (a text or an element) where that differs.
function sortableTable(columns, rows) {
  const body = element("tbody");
  const kinds = columns.map((column) => kindOf(rows.map(column.value)));
  const heads = columns.map((column, i) => {
    const button = element("button", { type: "button" }, column.title);
    const head = element("th", { scope: "col", className: kinds[i] }, button);
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
    const cells = (row) => columns.map((column, i) => cell(column, row, kinds[i]));
    body.replaceChildren(...sorted.map((row) => element("tr", {}, ...cells(row))));
  }

  fill(rows);
  return element("table", {}, element("thead", {}, element("tr", {}, ...heads)), body);
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

function drawTables() {
  const tier = filters.tier.value;
  const shown = DATA.tables.filter((table) => tier === ALL || table.tier === tier);
  byId("table-list").replaceChildren(...shown.flatMap(tierTable));
  if (!shown.length) byId("table-list").append(element("p", { className: "note" }, noTables()));
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
  const frame = { className: "scroll", tabIndex: 0, role: "region", "aria-label": table.title };
  return [head, element("div", frame, sortableTable(columns, table.rows))];
}

// 1092987904 as 1,092,987,904.
const grouped = (value) => (/^\d{5,}$/.test(value) ? Number(value).toLocaleString("en-US") : value);
