// What the run looked like over time. The charts are uPlot's, drawn in the colours of the page.
const COLOURS = ["--c1", "--c2", "--c3", "--c4", "--c5", "--c6"];
const MOST_SERIES = 6;
const drawn = [];

/** Return a colour of the style sheet as the browser works it out, for a canvas. */
function colour(name) {
  const probe = make("span", { class: "unseen" });
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

/** Return the charts of a timeline: {title, about, format, series: [{name, values, dashed, fill}]}. */
function chartsOf(run) {
  const line = run.timeline;
  const of = (pick) => line.map((sample) => pick(sample) ?? null);
  const keys = (name) => [...new Set(line.flatMap((sample) => Object.keys(sample[name] || {})))];
  const parts = (name, label) => keys(name).slice(0, MOST_SERIES).map((key) => ({ name: label(key), values: of((s) => (s[name] || {})[key]) }));
  const limit = run.verdict && run.verdict.limit_per_s;
  return [
    {
      id: "rate", title: "Items per second", format: (v) => rate(v), axis: (v) => figure(v),
      series: [
        { name: "this run", values: of((s) => s.rate), fill: true },
        limit ? { name: "limit of this machine", values: line.map(() => limit), dashed: true } : null,
      ].filter(Boolean),
    },
    { id: "busy", title: "Busy: share of the workers' time, by step", format: (v) => percent(v, 0), axis: (v) => percent(v, 0), series: parts("busy", (key) => key) },
    {
      id: "flight", title: "Items in flight", format: count, axis: count,
      series: [
        { name: "in flight", values: of((s) => s.in_flight), fill: true },
        { name: "window", values: of((s) => s.window), dashed: true },
        ...parts("queued", (key) => (keys("queued").length > 1 ? `waiting for ${key}` : "waiting for a worker")),
      ],
    },
    {
      id: "memory", title: "Memory", format: bytes, axis: bytes,
      series: [{ name: "this process", values: of((s) => s.rss_bytes), fill: true }, ...parts("device_bytes", (key) => key)],
    },
  ];
}

function timeline() {
  const run = data.run;
  if (!run.timeline || run.timeline.length < 2) {
    return section("time", "Over time", note(data.live && !run.ended ? "Not yet." : "This run was too short for a timeline."));
  }
  return section("time", "Over time", make("div", { class: "charts" }, ...chartsOf(run).map(figureOf)));
}

function figureOf(chart) {
  const values = make("ul", { class: "legend" });
  const canvas = make("div", { class: "canvas", role: "img", "aria-label": spoken(chart) });
  const whole = make("figure", { class: "chart", id: `chart-${chart.id}` }, make("figcaption", {}, chart.title), canvas, values);
  drawn.push({ chart, canvas, values, plot: null });
  return whole;
}

/** Say in words what a chart shows. */
function spoken(chart) {
  const said = chart.series.map((series) => {
    const known = series.values.filter((value) => value !== null);
    return known.length ? `${series.name} ${chart.format(Math.min(...known))} to ${chart.format(Math.max(...known))}` : `${series.name} not known`;
  });
  return `${chart.title}: ${said.join("; ")}`;
}

/** Draw all charts anew: they are in the page now, or its size or its colours have changed. */
function redraw() {
  const times = data.run.timeline.map((sample) => sample.t_s);
  for (const one of drawn) {
    if (one.plot) one.plot.destroy();
    one.plot = new uPlot(optionsOf(one), [times, ...one.chart.series.map((series) => series.values)], one.canvas);
    showValues(one, null);
  }
}

/** Show a longer timeline in the charts that are there. Where there are other series now, draw them anew. */
function extend() {
  const charts = chartsOf(data.run);
  const same = drawn.length && drawn.every((one, i) => one.plot && one.chart.series.length === charts[i].series.length);
  drawn.forEach((one, i) => (one.chart = charts[i]));
  if (!same) return redraw();
  const times = data.run.timeline.map((sample) => sample.t_s);
  for (const one of drawn) {
    one.plot.setData([times, ...one.chart.series.map((series) => series.values)]);
    one.canvas.setAttribute("aria-label", spoken(one.chart));
    showValues(one, null);
  }
}

function optionsOf(one) {
  const [line, muted] = [colour("--line"), colour("--muted")];
  const axis = { stroke: muted, font: "12px system-ui, sans-serif", grid: { stroke: line, width: 1 }, ticks: { show: false } };
  return {
    width: Math.max(280, one.canvas.clientWidth),
    height: 190,
    padding: [8, 8, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false } },
    scales: { x: { time: false }, y: { range: (_, low, high) => [0, (high || 1) * 1.08] } },
    axes: [
      { ...axis, space: 70, size: 28, values: (_, splits) => splits.map((s) => (s === null ? "" : duration(s))) },
      { ...axis, space: 34, size: 64, values: (_, splits) => splits.map((v) => (v === null ? "" : one.chart.axis(v))) },
    ],
    series: [{}, ...one.chart.series.map((series, i) => seriesOf(series, i))],
    hooks: { setCursor: [(plot) => showValues(one, plot.cursor.idx)] },
  };
}

function seriesOf(series, i) {
  const stroke = series.dashed ? colour("--muted") : colour(COLOURS[i % COLOURS.length]);
  const few = series.values.length < 40;
  return {
    label: series.name,
    stroke,
    width: 1.75,
    dash: series.dashed ? [5, 4] : undefined,
    fill: series.fill ? stroke.replace("rgb(", "rgba(").replace(")", ", 0.12)") : undefined,
    points: { show: few && !series.dashed, size: 4, fill: stroke },
  };
}

/** Write beside each series its value under the cursor, or its mean. */
function showValues(one, place) {
  const times = data.run.timeline;
  const items = one.chart.series.map((series, i) => {
    const swatch = make("span", { class: `swatch ${series.dashed ? "dashed" : ""}` });
    swatch.style.setProperty("--swatch", series.dashed ? "var(--muted)" : `var(${COLOURS[i % COLOURS.length]})`);
    const known = series.values.filter((value) => value !== null);
    const mean = known.length ? known.reduce((a, b) => a + b, 0) / known.length : null;
    const value = place === null || place === undefined ? mean : series.values[place];
    return make("li", {}, swatch, `${series.name} `, make("b", {}, value === null || value === undefined ? "–" : one.chart.format(value)));
  });
  const when = place === null || place === undefined ? "on average" : `at ${duration(times[place].t_s)}`;
  one.values.replaceChildren(...items, make("li", { class: "when" }, when));
}
