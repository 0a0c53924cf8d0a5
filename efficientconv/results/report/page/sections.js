// Draws a section when it comes near the window, and again when its runs have changed. Makes the menu of sections.

const sections = new Map(); // by id: element, draw (a function), near (the window), due (it must be drawn)

const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting: near } of entries) drawIfDue(Object.assign(sections.get(target.id), { near }));
}, { rootMargin: "300px" });

// `answer` is called when the reader changes a choice in the section.
function addSection(id, drawSection, answer = drawSection) {
  sections.set(id, { element: byId(id), draw: drawSection, near: false, due: true });
  byId(id).addEventListener("input", answer);
  watcher.observe(byId(id));
}

function drawIfDue(section) {
  if (section.near && section.due) {
    section.due = false;
    section.draw();
  }
  section.element.setAttribute("aria-busy", section.due);
}

function redrawSections(all = {}) {
  for (const section of sections.values()) drawIfDue(Object.assign(section, { due: true }, all));
}

// On paper the page is light, and as wide as the paper. All sections are drawn before the browser lays the pages out.
function print(printing) {
  document.documentElement.classList.toggle("printing", printing);
  redrawSections({ near: true });
}

// A click on a link scrolls without changing the address, because the address keeps the reader's choices.
byId("menu").append(...[...document.querySelectorAll("[data-menu]")].map((section) => {
  const link = element("a", { href: `#${section.id}` }, section.dataset.menu);
  link.addEventListener("click", (event) => {
    event.preventDefault();
    const heading = section.querySelector("h2");
    heading.tabIndex = -1;
    heading.focus({ preventScroll: true });
    section.scrollIntoView();
  });
  return link;
}));

function showSection(id, wanted) {
  byId(id).hidden = !wanted;
  byId("menu").querySelector(`[href="#${id}"]`).hidden = !wanted;
}

dark.addEventListener("change", () => redrawSections());
addEventListener("resize", () => redrawSections());
addEventListener("beforeprint", () => print(true));
addEventListener("afterprint", () => print(false));
