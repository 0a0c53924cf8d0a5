// The page's elements: every text goes in as text, never as HTML.

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

// Options as [value, title] or plain values; keeps the choice where it is still there, else takes `preferred` or the first.
function fillSelect(select, options, preferred) {
  const pairs = options.map((option) => (Array.isArray(option) ? option : [option, option]));
  const values = pairs.map(([value]) => String(value));
  const choice = [select.value, String(preferred)].find((value) => values.includes(value));
  select.replaceChildren(...pairs.map(([value, title]) => element("option", { value }, title)));
  if (choice !== undefined) select.value = choice;
}

for (const form of document.forms) form.addEventListener("submit", (event) => event.preventDefault());
