// Makes elements of the page. Every text is inserted as text, never as HTML.

const byId = (id) => document.getElementById(id);

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// Fills a select. An option is a value, [value, title] or [value, title, group]. The chosen option is the first that
// exists of: the address's choice, the choice before, `preferred`.
function fillSelect(select, options, preferred) {
  const triples = options.map((option) => (Array.isArray(option) ? option : [option, option]));
  const values = triples.map(([value]) => String(value));
  const choice = [select.dataset.wanted, select.value, String(preferred)].find((value) => values.includes(value));
  select.replaceChildren(...[...Map.groupBy(triples, ([, , group]) => group)].flatMap(([group, own]) => {
    const list = own.map(([value, title]) => element("option", { value }, title));
    return group === undefined ? list : [element("optgroup", { label: group }, ...list)];
  }));
  if (choice !== undefined) select.value = choice;
}

function download(name, content, type) {
  const link = element("a", { href: URL.createObjectURL(new Blob([content], { type })), download: name });
  link.click();
  URL.revokeObjectURL(link.href);
}

for (const form of document.forms) {
  if (form.method !== "dialog") form.addEventListener("submit", (event) => event.preventDefault());
}
