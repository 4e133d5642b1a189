// The failed items, grouped by their cause.
function failures() {
  const causes = data.failures;
  const known = causes.reduce((sum, cause) => sum + cause.count, 0);
  if (!causes.length) return null;
  const heading = known === 1 ? "1 failure" : `${count(known)} failures, ${causes.length === 1 ? "one cause" : `${count(causes.length)} causes`}`;
  return section("failures", heading, ...causes.map((cause, i) => causeOf(cause, known, i === 0)));
}

function causeOf(cause, known, open) {
  const where = [cause.stage, cause.model ? `model ${cause.model}` : null, cause.type].filter(Boolean).join(" · ");
  const more = cause.count - cause.examples.length;
  return make(
    "details",
    { class: "cause", open },
    make("summary", {}, bar(cause.count / known, count(cause.count), "failed"), make("span", { class: "why" }, make("span", { class: "where" }, where), make("span", { class: "message" }, cause.cause))),
    make("ul", { class: "examples" }, ...cause.examples.map(exampleOf)),
    more > 0 ? note(`… and ${count(more)} more: penstock failures shows all.`) : null,
  );
}

function exampleOf(example) {
  const tries = example.attempts > 1 ? make("span", { class: "note" }, `${count(example.attempts)} attempts`) : null;
  return make(
    "li",
    {},
    pictureOf(example.picture, ""),
    make("div", {}, make("span", { class: "id" }, example.id), make("span", { class: "message" }, example.message), tries),
  );
}
