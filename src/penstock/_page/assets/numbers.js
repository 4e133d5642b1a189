// Numbers as people read them: never more digits than are known, with their unit.
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

function count(n) {
  return n === null || n === undefined ? "–" : whole.format(n);
}

function plain(value, digits) {
  return new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
}

/** 1,234/s, 7.3/s, 0.04/s. */
function rate(perSecond) {
  if (perSecond === null || perSecond === undefined) return "–";
  return `${plain(perSecond, perSecond >= 10 ? 0 : perSecond >= 1 ? 1 : 2)}/s`;
}

/** 35 µs, 1.24 ms, 3.1 s. */
function seconds(s) {
  if (s === null || s === undefined) return "–";
  const [value, unit] = s < 1e-3 ? [s * 1e6, "µs"] : s < 1 ? [s * 1e3, "ms"] : [s, "s"];
  return `${plain(value, value >= 100 ? 0 : value >= 10 ? 1 : 2)} ${unit}`;
}

/** 8.4 s, 2 min 05 s, 3 h 02 min, 2 d 3 h. */
function duration(s) {
  if (s === null || s === undefined) return "–";
  if (s < 100) return `${plain(s, s < 10 ? 1 : 0)} s`;
  const t = Math.round(s);
  const two = (n) => String(n).padStart(2, "0");
  if (t < 3600) return `${Math.floor(t / 60)} min ${two(t % 60)} s`;
  if (t < 86400) return `${Math.floor(t / 3600)} h ${two(Math.floor((t % 3600) / 60))} min`;
  return `${Math.floor(t / 86400)} d ${Math.floor((t % 86400) / 3600)} h`;
}

/** 12.4 MB, 1.3 GB. */
function bytes(n) {
  if (n === null || n === undefined) return "–";
  if (n === 0) return "0";
  const size = Math.abs(n); // less than before is below 0
  const [value, unit] = size >= 1e9 ? [n / 1e9, "GB"] : size >= 1e6 ? [n / 1e6, "MB"] : [n / 1e3, "kB"];
  return `${plain(value, size >= 1e8 && size < 1e9 ? 0 : 1)} ${unit}`;
}

function percent(share, digits = 1) {
  return share === null || share === undefined ? "–" : `${plain(share * 100, digits)} %`;
}

function score(value) {
  return value === null || value === undefined ? "–" : plain(value, 3);
}

/** A number of which only the size matters: 1.5e-6, 0.0213, 247.3. */
function figure(value) {
  if (value === 0 || Number.isInteger(value)) return count(value);
  if (Math.abs(value) < 1e-3) return value.toExponential(1);
  return plain(value, Math.abs(value) >= 100 ? 1 : Math.abs(value) >= 1 ? 2 : 4);
}

/** What a name in the data is to people: items_per_s -> items per s. */
function words(name) {
  return name.replaceAll("_", " ");
}

/** A JSON value in a line. */
function inLine(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "number") return figure(value);
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (Array.isArray(value)) return value.map(inLine).join(", ");
  if (typeof value === "object") return Object.entries(value).map(([k, v]) => `${words(k)} ${inLine(v)}`).join(", ");
  return String(value);
}
