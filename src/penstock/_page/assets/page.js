// The page as a whole: its parts in order, the colours, and, while a run goes on, what the server tells.
const PARTS = { failures, evaluation, gallery, time: timeline, steps, plan };
const NAMES = { failures: "Failures", evaluation: "Right and wrong", gallery: "Results", time: "Over time", steps: "Steps", plan: "Plan" };
const FOLLOWED = ["failures", "steps", "plan"];

function build() {
  const sections = Object.entries(PARTS).map(([id, make_]) => [id, make_()]).filter(([, part]) => part);
  const links = sections.map(([id]) => make("li", {}, make("a", { href: `#${id}` }, NAMES[id])));
  document.body.prepend(
    make("a", { class: "skip", href: "#main" }, "Skip to the report"),
    make("header", {}, make("div", { class: "brand" }, make("span", { class: "mark", "aria-hidden": "true" }), "penstock"), make("nav", { "aria-label": "Parts of the report" }, make("ul", {}, ...links)), themes()),
    make("main", { id: "main", tabindex: "-1" }, make("h1", {}, data.name), make("div", { id: "summary" }, summary()), ...sections.map(([, part]) => part)),
    make("footer", {}, make("p", {}, `Made by penstock ${data.version}. Everything on this page is in this one file.`)),
  );
}

function themes() {
  const control = make("select", { id: "theme", "aria-label": "Theme" }, ...[["", "System theme"], ["light", "Light"], ["dark", "Dark"]].map(([value, text]) => make("option", { value }, text)));
  control.addEventListener("input", () => {
    document.documentElement.dataset.theme = control.value;
    redraw();
  });
  return control;
}

/** Put a part of the page in the place of the one that is there, unless somebody is at it. */
function renew(id) {
  const [old, fresh] = [document.getElementById(id), PARTS[id]()];
  if (old && old.contains(document.activeElement)) return;
  if (old && fresh) old.replaceWith(fresh);
  else if (fresh && id === "failures") document.getElementById("summary").after(fresh);
}

/** Follow a run that goes on. The last word of the server is all that came of it; then the page stays as it is. */
function follow() {
  const events = new EventSource("events");
  events.onmessage = (event) => {
    const told = JSON.parse(event.data);
    const before = JSON.stringify([data.failures, data.run.plan]);
    Object.assign(data, told);
    document.getElementById("summary").replaceChildren(summary());
    const changed = JSON.stringify([data.failures, data.run.plan]) !== before;
    for (const id of FOLLOWED) if (changed || id === "steps") renew(id);
    if (drawn.length) extend();
    else if (data.run.timeline.length > 1) {
      document.getElementById("time").replaceWith(timeline());
      redraw();
    }
    if (data.run.ended) {
      document.getElementById("state").textContent = `finished: ${stateOf(data.run)[0]}`;
    }
    if (told.gallery) {
      events.close();
      finish();
    }
  };
  events.onerror = () => {
    if (data.run.ended) return events.close();
    const state = document.getElementById("state");
    state.textContent = events.readyState === EventSource.CLOSED ? "the server has gone" : "connection lost, trying again";
    state.className = "state warn";
  };
}

/** Show what only the end has: all results, and how right they are. */
function finish() {
  document.getElementById("gallery").replaceWith(gallery());
  const right = evaluation();
  if (right) document.getElementById("gallery").before(right);
}

build();
if (drawn.length) redraw();
let width = innerWidth;
addEventListener("resize", () => {
  if (innerWidth !== width) redraw();
  width = innerWidth;
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
addEventListener("beforeprint", () => {
  document.documentElement.dataset.printing = "yes";
  redraw();
});
addEventListener("afterprint", () => {
  delete document.documentElement.dataset.printing;
  redraw();
});
if (data.live && !data.run.ended) follow();
