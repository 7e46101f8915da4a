// Names of dictionaries, what is said of latents, and tables that say what a picture says.
const NAMES = DATA.dictionaries.map((one) => one.name);
const PLACES = new Map(NAMES.map((name, place) => [name, place]));
const plainly = (measure) => measure.replaceAll("_", " ");
const whole = (n) => n.toLocaleString("en");
const counted = (n, noun, many) => whole(n) + " " + (n === 1 ? noun : many ?? noun + "s");
const fixed = (value, digits = 3) => (Number.isFinite(value) ? (value < 0 && Number(value.toFixed(digits)) !== 0 ? MINUS : "") + Math.abs(value).toFixed(digits) : "–");
// JSON has no NaN: a float that is none stands as a word.
const float = (value) => (typeof value === "string" ? Number(value) : value);

const factsOf = (name, latent) => SHOWN.latents[name]?.[latent] ?? { words: [] };
const wordsOf = (name, latent, most = 4) => factsOf(name, latent).words.slice(0, most);
const bdis = (found) => (found.length ? make("span", { class: "words" }, ...found.map((word) => make("bdi", {}, word))) : null);
const latentLabel = (name, latent) => make("span", { class: "latent" }, make("b", {}, name + "/" + latent), " ", bdis(wordsOf(name, latent)));

const options = (id, values, words = (value) => value) =>
  fill(id, ...values.map((value, place) => make("option", { value: place }, words(value))));

const either = (name, found) => { byId(name + "-view").hidden = !found; byId(name + "-none").hidden = Boolean(found); return found; };

// Tables: columns are {name, of: row => value, show: row => element, text: whether it is no number}; rows anything.
const tables = new Map();
const STEP = 100;

const csvCell = (value) => {
  const text = value === null || value === undefined || Number.isNaN(value) ? "" : String(value);
  return /[",\n\r]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
};
const records = (columns, rows) => rows.map((row) => Object.fromEntries(columns.map((column) => [column.name, column.of(row)])));
const csv = (columns, rows) => [columns.map((column) => csvCell(column.name)), ...rows.map((row) => columns.map((column) => csvCell(column.of(row))))].map((line) => line.join(",")).join("\r\n") + "\r\n";

const twin = (id, title, columns, rows, { open = false, sorted = null, pick = null, said = "" } = {}) => {
  const state = tables.get(id) ?? { sorted, shown: STEP, open };
  tables.set(id, Object.assign(state, { title, columns, rows, pick, said, always: open }));
  drawTwin(id);
};

const drawTwin = (id) => {
  const state = tables.get(id), { columns, title, pick } = state;
  const heading = title + ": " + counted(state.rows.length, "row");
  const body = make("div", {}, make("p", { class: "tools" },
    make("button", { type: "button", "data-save": "csv", onclick: () => save(id + ".csv", csv(columns, ordered(state)), "text/csv") }, "CSV"),
    make("button", { type: "button", "data-save": "json", onclick: () => download(id + ".json", records(columns, ordered(state))) }, "JSON"),
    state.said ? make("span", { class: "note" }, state.said) : null));
  if (state.open) {
    const rows = ordered(state), listed = rows.slice(0, state.shown);
    const head = make("tr", {}, ...columns.map((column, place) => {
      const here = state.sorted?.place === place;
      const sort = () => { state.sorted = { place, down: here ? !state.sorted.down : !column.text }; drawTwin(id); byId(id + "-twin").querySelectorAll("th button")[place].focus(); };
      return make("th", { scope: "col", class: column.text ? "" : "n", "aria-sort": here ? (state.sorted.down ? "descending" : "ascending") : null }, make("button", { type: "button", onclick: sort }, column.name));
    }));
    const lines = listed.map((row) => {
      const line = make("tr", {}, ...columns.map((column) => make("td", { class: column.text ? "" : "n", "data-label": column.name }, column.show ? column.show(row) : column.text ? String(column.of(row)) : number(column.of(row)))));
      if (pick) pick(line, row);
      return line;
    });
    body.append(make("div", { class: "scroll tall" }, make("table", { "aria-label": title }, make("thead", {}, head), make("tbody", {}, ...lines))));
    if (rows.length > listed.length) body.append(make("p", { class: "small" }, whole(listed.length) + " of " + counted(rows.length, "row") + " shown. ",
      make("button", { type: "button", onclick: () => { state.shown += 5 * STEP; drawTwin(id); } }, "Show more"), " The files have all of them."));
  }
  if (state.always) { fill(id + "-twin", body); return; }
  const details = make("details", { open: state.open }, make("summary", {}, heading), body);
  details.addEventListener("toggle", () => { if (details.open !== state.open) { state.open = details.open; drawTwin(id); byId(id + "-twin").querySelector("summary").focus(); } });
  fill(id + "-twin", details);
};

const ordered = ({ rows, columns, sorted }) => {
  if (!sorted) return rows;
  const of = columns[sorted.place].of, unknown = (value) => value === null || value === undefined || Number.isNaN(value);
  const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
  const known = rows.filter((row) => !unknown(of(row))).sort((a, b) => compare(of(a), of(b)) * (sorted.down ? -1 : 1));
  return [...known, ...rows.filter((row) => unknown(of(row)))];
};

// A word beside the pointer, or beside what has the focus.
const tip = (event, ...said) => {
  const box = byId("tip");
  box.replaceChildren(...said);
  box.hidden = false;
  const width = box.offsetWidth, left = Math.min(event.clientX + 14, window.innerWidth - width - 8);
  box.style.left = Math.max(4, left) + "px";
  box.style.top = (event.clientY + 18 + box.offsetHeight > window.innerHeight ? event.clientY - box.offsetHeight - 10 : event.clientY + 18) + "px";
};
const untip = () => { byId("tip").hidden = true; };

