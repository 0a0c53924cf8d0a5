// Keeps the reader's choices in the page's address, so that a link shows the same view to others: #tier=smoke&model=c

const choices = new URLSearchParams(location.hash.slice(1));
const remembered = new Map(); // by a choice's name: the function that reads the choice from the page

function remember(name, get, set) {
  remembered.set(name, get);
  if (choices.has(name)) set(choices.get(name));
}

// The sections fill a select, and set a checkbox to its default, later. Until then the address's choice waits in `wanted`.
for (const control of document.querySelectorAll("select, input")) {
  const isBox = control.type === "checkbox";
  const get = () => (isBox ? (control.checked ? "on" : "off") : control.value || (control.dataset.wanted ?? ""));
  remember(control.id, get, (value) => {
    control.dataset.wanted = value;
    control[isBox ? "checked" : "value"] = isBox ? value === "on" : value;
  });
}

function writeAddress() {
  const named = [...remembered].map(([name, get]) => [name, get()]).filter(([, value]) => value !== "");
  history.replaceState(null, "", `#${new URLSearchParams(named)}`);
}

// In the capture phase, so that this listener runs before those of the sections.
document.addEventListener("input", ({ target }) => {
  delete target.dataset.wanted;
  queueMicrotask(writeAddress);
}, { capture: true });

// The reader typed or pasted an address, or went back.
addEventListener("hashchange", () => location.reload());
