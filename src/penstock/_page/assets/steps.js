// The steps with the time they took, and the plan with the measurements behind it.
function steps() {
  const run = data.run;
  const rows = (run.stages || []).map((step) => ({ ...step, calls: (run.latencies || []).find((one) => one.name === step.name) }));
  if (!rows.length) return section("steps", "Steps", note(isAhead(run) ? "Not yet." : "Nothing was done in this run."));
  const all = rows.reduce((sum, row) => sum + row.busy_s, 0) || 1;
  const range = rangeOf(rows);
  const columns = [
    { title: "step", value: (r) => r.name },
    { title: "items", number: true, value: (r) => r.items, show: (r) => count(r.items) },
    { title: "failed", number: true, value: (r) => r.failed, show: (r) => (r.failed ? make("b", { class: "bad" }, count(r.failed)) : "0") },
    { title: "share of all work", value: (r) => r.busy_s, show: (r) => bar(r.busy_s / all, percent(r.busy_s / all)) },
    { title: "an item", number: true, value: (r) => (r.items ? r.busy_s / r.items : null), show: (r) => (r.items ? seconds(r.busy_s / r.items) : "–") },
    { title: "a call of", number: true, value: (r) => r.calls && r.calls.items_a_call, show: (r) => (r.calls ? callOf(r.calls.items_a_call) : "–") },
    ...[["median", "p50_s"], ["90 %", "p90_s"], ["99 %", "p99_s"], ["longest", "p100_s"]].map(([title, key]) => ({
      title, number: true, value: (r) => r.calls && r.calls[key], show: (r) => (r.calls ? seconds(r.calls[key]) : "–"),
    })),
    { title: "how long calls take", wide: true, show: (r) => (r.calls ? histogram(r.calls, range) : "–") },
  ];
  return section(
    "steps",
    "Steps",
    table("Steps and how long they took", columns, rows),
    range ? note(`The curves share one axis, from ${seconds(range[0])} to ${seconds(range[1])}, each step to the right the same factor. A worker times what it does in one go: for a cheap step that is the mean of several calls.`) : null,
  );
}

function callOf(n) {
  return n === 1 ? "1 item" : `${count(n)} items`;
}

function rangeOf(rows) {
  const ends = rows.flatMap((row) => (row.calls ? row.calls.histogram.flatMap(([from, to]) => [from, to]) : []));
  return ends.length ? [Math.min(...ends), Math.max(...ends)] : null;
}

/** Return a small histogram; the axis is logarithmic and the same in all rows. */
function histogram(calls, [least, most]) {
  const [width, height] = [200, 30];
  const x = (s) => (width * Math.log(s / least)) / Math.log(most / least);
  const high = Math.max(...calls.histogram.map(([, , n]) => n));
  const bars = calls.histogram.map(([from, to, n]) => {
    const tall = Math.max(1, (n / high) * (height - 2));
    return draw("rect", { x: x(from).toFixed(1), width: Math.max(0.8, x(to) - x(from) - 0.6).toFixed(1), y: (height - tall).toFixed(1), height: tall.toFixed(1) });
  });
  const text = `median ${seconds(calls.p50_s)}, 99 % ${seconds(calls.p99_s)}`;
  return draw("svg", { class: "histogram", viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": text }, ...bars);
}

const SHOWN_APART = new Set(["measurements", "memory", "agreement", "stages", "climb"]);
const IN_BYTES = /_bytes$/;

function plan() {
  const chosen = data.run.plan || {};
  const entries = Object.entries(chosen).filter(([key, value]) => !SHOWN_APART.has(key) && value !== null && value !== 0 && value !== "");
  if (!entries.length) return section("plan", "Plan", note(isAhead(data.run) ? "Not yet." : "This run had nothing to plan."));
  const list = entries.map(([key, value]) => [words(key.replace(IN_BYTES, "")), IN_BYTES.test(key) ? bytes(value) : inLine(value)]);
  const shapes = Object.entries(chosen.stages || {}).map(([name, n]) => `${name.replaceAll("+", " + ")}: ${n === 1 ? "1 worker" : `${count(n)} workers`}`);
  const long = [["stages", shapes.join("; ")], ["answers, compared with a plain reference", chosen.agreement]].filter(([, value]) => value);
  return section(
    "plan",
    "Plan",
    make("dl", { class: "facts" }, ...list.map((fact) => factOf(fact)), ...long.map((fact) => factOf(fact, "whole"))),
    rowsOf("What was measured to choose", chosen.measurements),
    rowsOf("What was tried while it went on", chosen.climb),
    rowsOf("Memory, as planned", chosen.memory),
  );
}

function factOf([name, value], kind = null) {
  return make("div", { class: kind }, make("dt", {}, name), make("dd", {}, value));
}

/** Return a table of rows that are dicts, whatever is in them. */
function rowsOf(title, rows) {
  if (!rows || !rows.length) return null;
  const keys = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const most = Math.max(...rows.map((row) => row.items_per_s || 0));
  const columns = keys.map((key) => {
    const number = rows.every((row) => row[key] === null || row[key] === undefined || typeof row[key] === "number");
    const show = (row) => {
      const value = row[key];
      if (value === null || value === undefined) return "–";
      if (key === "items_per_s") return bar(value / most, rate(value), "thin");
      return IN_BYTES.test(key) ? bytes(value) : inLine(value);
    };
    const sorted = (row) => (typeof row[key] === "object" ? inLine(row[key]) : row[key]);
    return { title: key === "items_per_s" ? "rate" : words(key.replace(IN_BYTES, "")), number: number && key !== "items_per_s", value: sorted, show };
  });
  const rowClass = (row) => (row.verdict === "chosen" ? "chosen" : null);
  return make("div", {}, make("h3", {}, title), table(title, columns, rows, { rowClass }));
}
