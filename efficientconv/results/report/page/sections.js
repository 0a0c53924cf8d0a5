// Sections are drawn when they come near the window, and again, then, when their runs have changed.

const sections = new Map(); // by id: how it is drawn, whether it is near, whether it is out of date
const NEAR = "300px";

const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const section = sections.get(entry.target.id);
    section.near = entry.isIntersecting;
    drawIfDue(section);
  }
}, { rootMargin: NEAR });

function addSection(id, drawSection) {
  sections.set(id, { element: byId(id), draw: drawSection, near: false, due: true });
  watcher.observe(byId(id));
}

function drawIfDue(section) {
  if (section.near && section.due) {
    section.due = false;
    section.draw();
  }
  section.element.setAttribute("aria-busy", section.due);
}

function redrawSections() {
  for (const section of sections.values()) {
    section.due = true;
    drawIfDue(section);
  }
}

function drawAllSections() {
  for (const section of sections.values()) {
    drawIfDue(Object.assign(section, { near: true }));
  }
}

dark.addEventListener("change", redrawSections);
addEventListener("resize", redrawSections);
addEventListener("beforeprint", drawAllSections);
