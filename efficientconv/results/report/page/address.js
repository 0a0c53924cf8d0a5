// What the reader has chosen stands in the address, so that it can be sent to others: #tier=smoke&model=c

const choices = new URLSearchParams(location.hash.slice(1));
const remembered = new Map(); // by name: how a choice is read from the page

function remember(name, get, set) {
  remembered.set(name, get);
  if (choices.has(name)) set(choices.get(name));
}

// A select gets its options later, a checkbox its default: what the address wants for them waits until then.
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

// Before the sections hear of it.
document.addEventListener("input", ({ target }) => {
  delete target.dataset.wanted;
  queueMicrotask(writeAddress);
}, { capture: true });

// An address that was typed or pasted, or the way back.
addEventListener("hashchange", () => location.reload());
