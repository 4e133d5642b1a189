// The top of the page: what was run, what became of it, and what held it back.
const ENDS = {
  complete: ["complete", "good"],
  interrupted: ["interrupted", "warn"],
  stopped: ["stopped", "bad"],
};

function stateOf(run) {
  if (isAhead(run)) return ["waiting for the first items", "busy"];
  if (run.ended) return ENDS[run.ended] || [run.ended, "warn"];
  if (data.live) return ["running", "busy"];
  return ["not ended when this page was made", "warn"];
}

/** Tell whether this is a run whose first items are still to come. */
function isAhead(run) {
  return data.live && !run.ended && !run.attempted;
}

function sentenceOf(run) {
  if (isAhead(run)) return "Nothing is done yet: the model is loaded first, and how to run it is measured.";
  if (run.verdict && run.verdict.sentence) return run.verdict.sentence;
  if (!run.attempted) return `${count(run.done)} of ${count(run.planned)} items are done.`;
  const slowest = (run.stages || []).find((step) => step.name === run.slowest_stage);
  const all = (run.stages || []).reduce((sum, step) => sum + step.busy_s, 0);
  const share = slowest && all > 0 ? `, ${percent(slowest.busy_s / all, 0)} of all work` : "";
  return `${rate(run.rate)}${run.slowest_stage ? `; slowest stage: ${run.slowest_stage}${share}` : ""}`;
}

function summary() {
  const run = data.run;
  const [state, kind] = stateOf(run);
  const about = [run.began ? `began ${run.began.replace("T", " ").slice(0, 19)}` : null, modelOf(run)].filter(Boolean);
  return make(
    "div",
    { class: "summary" },
    make("p", { class: "verdict" }, sentenceOf(run)),
    make("p", { class: "about" }, make("span", { class: `state ${kind}`, id: "state" }, state), ...about.map((text) => make("span", {}, text))),
    run.error ? make("p", { class: "callout", role: "note" }, make("strong", {}, run.error.type), make("span", { class: "pre" }, run.error.message)) : null,
    progress(run),
    isAhead(run) ? null : tiles(run),
    notes(run),
    arithmetic(run),
  );
}

function modelOf(run) {
  const names = [...new Set(((run.plan || {}).memory || []).map((plan) => plan.model))];
  const runtime = (run.plan || {}).runtime;
  const parts = [names.join(", "), runtime ? `on ${runtime}` : ""].filter(Boolean);
  return parts.length ? parts.join(" ") : null;
}

function progress(run) {
  const parts = [["done", run.done], ["failed", run.failed]];
  const strip = make("div", { class: "progress", role: "img", "aria-label": `${count(run.done)} of ${count(run.planned)} items done, ${count(run.failed)} failed` });
  for (const [name, n] of parts) {
    const part = make("span", { class: name });
    part.style.width = `${(100 * n) / Math.max(1, run.planned)}%`;
    if (n) strip.append(part);
  }
  return strip;
}

function tiles(run) {
  const last = (run.timeline || []).at(-1);
  const judged = Object.values((data.evaluation || { models: {} }).models);
  const right = judged.length === 1 ? judged[0].top1 ?? judged[0].exact : null;
  const peak = (run.plan || {}).peak_memory_bytes || (last && last.rss_bytes);
  const list = [
    ["items", count(run.planned), ""],
    ["done", count(run.done), run.planned ? percent(run.done / run.planned) : ""],
    ["failed", count(run.failed), run.planned && run.failed ? percent(run.failed / run.planned) : "", run.failed ? "bad" : ""],
    run.skipped ? [run.ended || !data.live ? "not attempted" : "to come", count(run.skipped), percent(run.skipped / run.planned)] : null,
    typeof right === "number" ? ["right", percent(right), `of ${count(judged[0].items)} judged`] : null,
    run.attempted ? ["rate", rate(run.rate), `${count(run.attempted)} in this run`] : null,
    run.attempted ? ["time", duration(run.seconds), ""] : null,
    peak ? ["memory, at most", bytes(peak), ""] : null,
  ];
  const shown = list.filter(Boolean).map(([name, value, more, kind]) =>
    make("div", { class: `tile ${kind || ""}` }, make("dt", {}, name), make("dd", {}, value, more ? make("small", {}, more) : null)),
  );
  return make("dl", { class: "tiles" }, ...shown);
}

function notes(run) {
  const rare = [
    ["ignored (no pictures, by their suffix)", run.ignored],
    ["vanished from the source since they were done", run.vanished],
    ["beyond the limit", run.beyond_limit],
    ...Object.entries(run.notes || {}),
  ].filter(([, n]) => n);
  return rare.length ? make("ul", { class: "rare" }, ...rare.map(([what, n]) => make("li", {}, make("b", {}, count(n)), ` ${what}`))) : null;
}

function arithmetic(run) {
  const lines = (run.verdict && run.verdict.arithmetic) || [];
  if (!lines.length) return null;
  return make("details", { class: "arithmetic" }, make("summary", {}, "How this was worked out"), make("ol", {}, ...lines.map((line) => make("li", {}, line))));
}
