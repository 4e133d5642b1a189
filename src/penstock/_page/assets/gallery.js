// The results: searched, filtered, sorted, and shown a page at a time, so that 10,000 are as quick as ten.
const A_PAGE = 36;
const view = { search: "", model: 0, truth: "", said: "", only: "all", below: 100, sort: "input", page: 0 };
const parts = {};

function answerOf(item) {
  return item.answers[view.model];
}

const ORDERS = {
  input: ["order of the input", () => 0],
  low: ["lowest score first", (a, b) => compare((answerOf(a) || [])[1], (answerOf(b) || [])[1])],
  high: ["highest score first", (a, b) => compare((answerOf(a) || [])[1], (answerOf(b) || [])[1], -1)],
  name: ["name", (a, b) => compare(a.id, b.id)],
  said: ["prediction", (a, b) => compare((answerOf(a) || [""])[0], (answerOf(b) || [""])[0])],
};

function chosen() {
  const search = view.search.toLowerCase();
  const found = data.gallery.items.filter((item) => {
    const answer = answerOf(item);
    if (view.said && (!answer || answer[0] !== view.said)) return false;
    if (view.truth && item.truth !== view.truth) return false;
    if (view.only === "wrong" && (!answer || answer[2] !== false)) return false;
    if (view.only === "right" && (!answer || answer[2] !== true)) return false;
    if (view.below < 100 && !(answer && answer[1] !== null && answer[1] * 100 <= view.below)) return false;
    return !search || [item.id, item.truth, answer && answer[0]].some((text) => text && text.toLowerCase().includes(search));
  });
  return view.sort === "input" ? found : found.sort(ORDERS[view.sort][1]);
}

function gallery() {
  const { items, total, models } = data.gallery;
  if (!items.length) return section("gallery", "Results", note(data.live ? "The results so far are here when this page is loaded again, and all of them at the end." : "There are no results."));
  parts.count = make("p", { class: "count", role: "status" });
  parts.cards = make("ul", { class: "cards", id: "cards" });
  parts.pagers = [pager("above"), pager("below")];
  const some = total > items.length ? note(`${count(items.length)} of ${count(total)} results are on this page: wrong and uncertain ones first, and every so many of all.`) : null;
  const whole = section("gallery", "Results", some, tools(models), make("div", { class: "found" }, parts.count, parts.pagers[0]), parts.cards, parts.pagers[1], dialog());
  show();
  return whole;
}

function tools(models) {
  const { items } = data.gallery;
  const has = (pick) => items.some((item) => item.answers.some((answer) => answer && pick(answer)));
  const truths = texts(items.map((item) => item.truth));
  const said = texts(items.flatMap((item) => item.answers.map((answer) => answer && answer[0])));
  const few = (list) => list.length > 1 && list.length <= Math.max(50, items.length / 3);
  const judged = has((answer) => typeof answer[2] === "boolean");
  return make(
    "form",
    { class: "tools", role: "search", onsubmit: (event) => event.preventDefault() },
    field("search", "Search", make("input", { type: "search", placeholder: "name or text" })),
    models.length > 1 ? field("model", "Model", select(models.map((name, i) => [i, name])), Number) : null,
    few(said) ? field("said", "Prediction", select([["", "all"], ...said.map((text) => [text, text])])) : null,
    few(truths) ? field("truth", "Truth", select([["", "all"], ...truths.map((text) => [text, text])])) : null,
    judged ? field("only", "Show", select([["all", "all"], ["wrong", "wrong only"], ["right", "right only"]])) : null,
    has((answer) => answer[1] !== null) ? field("below", "Score at most", make("input", { type: "range", min: 0, max: 100, value: 100 }), Number) : null,
    field("sort", "Sort by", select(Object.entries(ORDERS).map(([key, [name]]) => [key, name]))),
    make("button", { type: "reset", class: "quiet", onclick: reset }, "Clear"),
  );
}

function texts(all) {
  return [...new Set(all.filter(Boolean))].sort(collator.compare);
}

function select(options) {
  return make("select", {}, ...options.map(([value, text]) => make("option", { value }, text)));
}

/** Return a labelled control for view[name]; what it says is shown at once. */
function field(name, label, control, read = String) {
  control.id = `find-${name}`;
  parts[name] = control;
  const value = control.type === "range" ? make("output", { for: control.id }, "1.00") : null;
  control.addEventListener("input", () => {
    view[name] = read(control.value);
    view.page = 0;
    if (value) value.textContent = plain(view.below / 100, 2);
    show();
  });
  return make("div", { class: "field" }, make("label", { for: control.id }, label, value), control);
}

function reset() {
  Object.assign(view, { search: "", model: 0, truth: "", said: "", only: "all", below: 100, sort: "input", page: 0 });
  for (const output of document.querySelectorAll(".tools output")) output.textContent = "1.00";
  show();
}

function pager(where) {
  const go = (step) => () => {
    view.page += step;
    show();
    if (where === "below") document.getElementById("gallery").scrollIntoView();
  };
  const back = make("button", { type: "button", onclick: go(-1) }, "← Previous");
  const on = make("button", { type: "button", onclick: go(1) }, "Next →");
  const at = make("span", { class: "at" });
  return Object.assign(make("nav", { class: "pager", "aria-label": `Pages of results, ${where}` }, back, at, on), { back, on, at });
}

function show() {
  const found = (parts.found = chosen());
  const pages = Math.max(1, Math.ceil(found.length / A_PAGE));
  view.page = Math.max(0, Math.min(view.page, pages - 1));
  const some = found.slice(view.page * A_PAGE, (view.page + 1) * A_PAGE);
  const all = data.gallery.items.length;
  const said = found.length === all ? count(all) : `${count(found.length)} of ${count(all)}`;
  parts.count.textContent = `${said} ${all === 1 ? "result" : "results"}`;
  parts.cards.replaceChildren(...some.map((item, i) => card(item, view.page * A_PAGE + i)));
  for (const one of parts.pagers) {
    one.back.disabled = view.page === 0;
    one.on.disabled = view.page >= pages - 1;
    one.at.textContent = `page ${count(view.page + 1)} of ${count(pages)}`;
    one.hidden = pages < 2;
  }
}

function card(item, place) {
  const answer = answerOf(item);
  const kind = answer && answer[2] === false ? "wrong" : answer && answer[2] === true ? "right" : "";
  const said = answer ? answer[0] : "failed";
  return make(
    "li",
    { class: "card" },
    make(
      "button",
      { type: "button", onclick: () => open(place) },
      pictureOf(item.picture, ""),
      make("span", { class: "line" }, make("span", { class: `said ${kind}` }, said || "(empty)"), answer && answer[1] !== null ? make("span", { class: "score" }, plain(answer[1], 2)) : null),
      kind === "wrong" ? make("span", { class: "truth" }, `is ${item.truth}`) : null,
      make("span", { class: "id", title: item.id }, item.id),
    ),
  );
}

/** Show the items that `model` (by name) took for `said` and that are `truth`. */
function showInGallery(model, truth, said) {
  reset();
  Object.assign(view, { truth, said, model: Math.max(0, data.gallery.models.indexOf(model)) });
  for (const name of ["truth", "said", "model"]) if (parts[name]) parts[name].value = view[name];
  show();
  document.getElementById("gallery").scrollIntoView();
}

function dialog() {
  parts.dialog = make("dialog", { "aria-labelledby": "item-id", onkeydown: turn, onclick: (event) => event.target === parts.dialog && parts.dialog.close() });
  return parts.dialog;
}

/** The arrow keys go to the next item, and to the one before. */
function turn(event) {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const place = parts.place + (step || 0);
  if (step && place >= 0 && place < parts.found.length) open(place);
}

function open(place) {
  parts.place = place;
  const item = parts.found[place];
  const models = data.gallery.models;
  parts.dialog.replaceChildren(
    make("div", { class: "item-head" }, make("h3", { id: "item-id" }, item.id), make("button", { type: "button", class: "quiet", onclick: () => parts.dialog.close() }, "Close")),
    make("div", { class: "item" }, pictureOf(item.picture, "", "large"), make("div", {}, item.truth === null ? null : make("p", {}, "truth: ", make("b", {}, item.truth)), ...item.answers.map((answer, i) => answerBlock(answer, models[i])))),
    make("p", { class: "note" }, `${count(place + 1)} of ${count(parts.found.length)}; ← and → go on, Esc closes.`),
  );
  if (!parts.dialog.open) parts.dialog.showModal();
  parts.dialog.querySelector("button").focus();
}

function answerBlock(answer, model) {
  const name = model ? make("h4", {}, model) : null;
  if (!answer) return make("div", {}, name, note("This model failed on it."));
  const kind = answer[2] === false ? "wrong" : answer[2] === true ? "right" : "";
  const top = answer[3].map(([label, s]) => make("li", {}, bar(s, label, "thin"), make("span", { class: "number" }, score(s))));
  return make(
    "div",
    {},
    name,
    make("p", {}, make("span", { class: `said ${kind}` }, answer[0] || "(empty)"), answer[2] === null || answer[2] === undefined ? null : answer[2] ? " is right" : " is wrong", answer[1] === null ? null : `, score ${score(answer[1])}`),
    top.length ? make("ol", { class: "top" }, ...top) : null,
  );
}
