// What the reader has chosen stands in the address, so that it can be sent to others: #tier=smoke&model=c

const remembered = new Map(); // by name: how a choice is read from the page, and put there

function remember(name, get, set) {
  remembered.set(name, { get, set });
}

// A select may get its options later: fillSelect then finds what the address wanted.
function rememberControls(...ids) {
  for (const id of ids) {
    const control = byId(id);
    if (control.type === "checkbox") {
      remember(id, () => (control.checked ? "on" : ""), (value) => (control.checked = value === "on"));
      continue;
    }
    const get = () => (control.value || control.dataset.wanted) ?? "";
    remember(id, get, (value) => { control.dataset.wanted = control.value = value; });
    control.addEventListener("input", () => delete control.dataset.wanted);
  }
}

function writeAddress() {
  const choices = [...remembered].map(([name, { get }]) => [name, get()]).filter(([, value]) => value !== "");
  history.replaceState(null, "", `#${new URLSearchParams(choices)}`);
}

function readAddress() {
  const choices = new URLSearchParams(location.hash.slice(1));
  for (const [name, { set }] of remembered) {
    if (choices.has(name)) set(choices.get(name));
  }
}

document.addEventListener("input", () => queueMicrotask(writeAddress));
