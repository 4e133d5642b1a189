// Elements of the page. What comes from the data gets into the page as text and in no other way.
const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";

/** Return a new element. `attributes`: by name; `class` and `on...` as in HTML. Children: nodes, texts, or null. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Return a new SVG element. */
function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/** Return a section with a heading, to be linked to by its id. */
function section(id, title, ...children) {
  return make("section", { id, "aria-labelledby": `${id}-title` }, make("h2", { id: `${id}-title` }, title), ...children);
}

/** Return a bar of `share` (0 to 1) of its cell, behind a text. */
function bar(share, text, kind = "") {
  const cell = make("span", { class: `bar ${kind}` }, make("span", { class: "bar-text" }, text));
  cell.style.setProperty("--share", String(Math.max(0, Math.min(1, share || 0))));
  return cell;
}

/** Return a note, in small print. */
function note(text) {
  return make("p", { class: "note" }, text);
}

/**
 * Return a table that can be sorted by its columns.
 * columns: {title, value(row) to sort by, show(row) -> node or text, number: right-aligned, wide, about: explained}
 */
function table(caption, columns, rows, { rowClass = () => null } = {}) {
  const body = make("tbody");
  const fill = (sorted) => {
    body.replaceChildren(
      ...sorted.map((row) =>
        make("tr", { class: rowClass(row) }, ...columns.map((column, i) => cellOf(column, row, i === 0))),
      ),
    );
  };
  fill(rows);
  const heads = columns.map((column) => headOf(column, rows, fill));
  const whole = make("table", {}, make("caption", { class: "unseen" }, caption), make("thead", {}, make("tr", {}, ...heads)), body);
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, whole);
}

function cellOf(column, row, first) {
  const shown = column.show ? column.show(row) : column.value(row);
  const attributes = { class: [column.number ? "number" : "", column.wide ? "wide" : ""].join(" ").trim() || null };
  if (first) attributes.scope = "row";
  return make(first ? "th" : "td", attributes, shown === null || shown === undefined ? "–" : shown);
}

function headOf(column, rows, fill) {
  const head = make("th", { scope: "col", class: column.number ? "number" : null, title: column.about });
  if (!column.value || rows.length < 2) {
    head.append(column.title);
    return head;
  }
  const first = column.number ? "descending" : "ascending";
  const sort = () => {
    const order = head.getAttribute("aria-sort") !== first ? first : first === "ascending" ? "descending" : "ascending";
    for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    fill([...rows].sort((a, b) => compare(column.value(a), column.value(b), order === "ascending" ? 1 : -1)));
  };
  head.append(make("button", { type: "button", class: "sort", onclick: sort }, column.title));
  return head;
}

const collator = new Intl.Collator("en", { numeric: true });

/** Order numbers by size and texts as people do, the other way round with `direction` -1; what is not known is last. */
function compare(a, b, direction = 1) {
  const none = [a, b].map((value) => value === null || value === undefined || Number.isNaN(value));
  if (none[0] || none[1]) return none[0] - none[1];
  return direction * (typeof a === "number" && typeof b === "number" ? a - b : collator.compare(String(a), String(b)));
}

/** Return a small picture, or what stands in its place. */
function pictureOf(source, text, kind = "") {
  if (!source || !source.startsWith("data:image/")) {
    return make("span", { class: `no-picture ${kind}`, "aria-hidden": "true" }, "no picture");
  }
  const picture = make("img", { src: source, alt: text, class: kind || null, decoding: "async" });
  const far = () => Math.max(picture.naturalWidth / picture.naturalHeight, picture.naturalHeight / picture.naturalWidth) > 2;
  picture.addEventListener("load", () => {
    picture.classList.toggle("long", far());
    const list = picture.closest(".cards");
    if (list) list.classList.toggle("lines", list.querySelectorAll("img.long").length * 2 > list.children.length);
  });
  return picture;
}
