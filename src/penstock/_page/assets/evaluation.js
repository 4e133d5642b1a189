// Right and wrong: the figures of each model, their comparison, and which classes are taken for which.
function evaluation() {
  const found = data.evaluation;
  if (!found) return null;
  const models = Object.entries(found.models).map(([name, model]) => ({ name, ...model }));
  const without = [["without truth", found.without_truth], ["without result", found.without_result], ["failed", found.failed]].filter(([, n]) => n);
  const said = [`${count(found.items)} items with truth from ${found.truth}`, ...without.map(([what, n]) => `${count(n)} ${what}`)].join("; ");
  return section(
    "evaluation",
    "Right and wrong",
    note(`${said}.`),
    ...(found.notes || []).map(note),
    models.length > 1 ? table("Figures of each model", figuresOf(models), models) : scoresOf(models[0]),
    comparisons(found.comparisons || []),
    ...models.map((model, i) => detailsOf(model, models.length > 1, i === 0)),
  );
}

function figuresOf(models) {
  const shares = [["top-1", "top1"], ["top-5", "top5"], ["exact", "exact"], ["CER", "cer"], ["WER", "wer"]];
  const known = shares.filter(([, key]) => models.some((model) => typeof model[key] === "number"));
  return [
    { title: "model", value: (m) => m.name || "model" },
    { title: "items", number: true, value: (m) => m.items, show: (m) => count(m.items) },
    ...known.map(([title, key]) => ({ title, number: true, value: (m) => m[key], show: (m) => (typeof m[key] === "number" ? make("b", {}, percent(m[key])) : "–") })),
  ];
}

/** Return the figures of the only model there is. */
function scoresOf(model) {
  const shown = figuresOf([model]).slice(2).map((figure) => make("div", { class: "tile" }, make("dt", {}, figure.title), make("dd", {}, figure.show(model))));
  return make("dl", { class: "scores" }, ...shown);
}

function comparisons(pairs) {
  if (!pairs.length) return null;
  const number = (title, key) => ({ title, number: true, value: (c) => c[key], show: (c) => count(c[key]) });
  const columns = [
    { title: "first", value: (c) => c.a },
    { title: "second", value: (c) => c.b },
    number("both right", "both"),
    number("only first", "only_a"),
    number("only second", "only_b"),
    number("neither", "neither"),
    { title: "p", number: true, value: (c) => c.p_value, show: (c) => (c.p_value < 0.001 ? "< 0.001" : plain(c.p_value, 3)) },
    { title: "which says", wide: true, show: (c) => c.text },
  ];
  return make("div", {}, make("h3", {}, "Compared item by item"), table("Comparison of the models", columns, pairs));
}

function detailsOf(model, several, open) {
  const halves = [matrix(model), perClass(model)].filter(Boolean);
  const wide = (model.labels || []).length > 10;
  const parts = [halves.length ? make("div", { class: wide ? null : "halves" }, ...halves) : null, pairsOf(model), worstOf(model)].filter(Boolean);
  if (!parts.length) return null;
  if (!several) return make("div", {}, ...parts);
  return make("details", { class: "model", open }, make("summary", {}, model.name), ...parts);
}

/** Return the confusion matrix: the darker, the larger the share of the row. A number shows its items in the gallery. */
function matrix(model) {
  const [labels, confusion] = [model.labels || [], model.confusion || []];
  if (!labels.length || !confusion.length) return null;
  const head = make("tr", {}, make("td", { class: "corner" }, "truth ↓ · said →"), ...labels.map((label) => make("th", { scope: "col" }, make("span", {}, label))));
  const rows = confusion.map((counts, r) => {
    const sum = counts.reduce((a, b) => a + b, 0) || 1;
    return make("tr", {}, make("th", { scope: "row" }, labels[r]), ...counts.map((n, c) => cellOfMatrix(model, n, n / sum, labels[r], labels[c])));
  });
  const cut = model.all_labels ? note(`Of ${count(model.all_labels)} classes the ${count(labels.length)} that are confused most.`) : null;
  const caption = make("caption", { class: "unseen" }, "Confusion matrix: rows are the truth, columns what the model said");
  const whole = make("table", { class: "matrix" }, caption, make("thead", {}, head), make("tbody", {}, ...rows));
  return make("div", {}, make("h3", {}, "Which class is taken for which"), make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Confusion matrix" }, whole), cut);
}

function cellOfMatrix(model, n, share, truth, said) {
  const cell = make("td", { class: truth === said ? "right" : "wrong" });
  cell.style.setProperty("--share", String(Math.sqrt(share)));
  if (!n) return cell;
  const label = `${count(n)} of ${truth} said to be ${said}: show them`;
  cell.append(make("button", { type: "button", title: label, "aria-label": label, onclick: () => showInGallery(model.name, truth, said) }, count(n)));
  return cell;
}

function perClass(model) {
  if (!model.per_class || !model.per_class.length) return null;
  const share = (title, key) => ({ title, value: (c) => c[key], show: (c) => bar(c[key], percent(c[key]), "thin") });
  const columns = [
    { title: "class", value: (c) => c.label },
    { title: "items", number: true, value: (c) => c.support, show: (c) => count(c.support) },
    { ...share("precision", "precision"), about: "of those said to be it, how many are" },
    { ...share("recall", "recall"), about: "of those that are it, how many are found" },
    share("F1", "f1"),
  ];
  return make("div", {}, make("h3", {}, "Class by class"), table("Precision and recall of each class", columns, model.per_class));
}

function pairsOf(model) {
  if (!model.pairs || !model.pairs.length) return null;
  const columns = [
    { title: "truth", value: (p) => p[0] },
    { title: "said", value: (p) => p[1] },
    { title: "items", number: true, value: (p) => p[2], show: (p) => count(p[2]) },
  ];
  return make("details", {}, make("summary", {}, "The most frequent mistakes"), table("Most frequent mistakes", columns, model.pairs));
}

function worstOf(model) {
  if (!model.worst || !model.worst.length) return null;
  const pictures = new Map(data.gallery.items.map((item) => [item.id, item.picture]));
  const cards = model.worst.map((one) =>
    make(
      "li",
      { class: "card" },
      pictureOf(pictures.get(String(one.id)), ""),
      make("span", { class: "said wrong" }, one.prediction),
      make("span", { class: "truth" }, `is ${one.truth}`),
      make("span", { class: "id" }, String(one.id)),
    ),
  );
  return make("details", {}, make("summary", {}, "Worst mistakes first"), make("ul", { class: "cards" }, ...cards));
}
