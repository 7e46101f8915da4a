"use strict";
const record = JSON.parse(document.getElementById("record").textContent);
const game = document.getElementById("game");
// What the player said so far: an entry an item, {choice, written, answers}.
const said = [];
let place = 0;

function element(name, text, parent, attributes = {}) {
  const made = document.createElement(name);
  if (text !== null) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (parent) parent.append(made);
  return made;
}

function button(text, act, parent) {
  const made = element("button", text, parent, { type: "button" });
  made.addEventListener("click", act);
  return made;
}

function show() {
  game.replaceChildren();
  if (place === record.items.length) return reveal();
  const item = record.items[place], own = said[place];
  element("h2", `${place + 1} of ${record.items.length}: feature ${item.blind}`, game);
  if (!own) return naming(item);
  sorting(item, own);
}

function naming(item) {
  element("p", "It is active at the marked tokens:", game, { class: "small" });
  const texts = element("ul", null, game, { class: "texts" });
  for (const text of item.shown) marked(text, element("li", null, texts));
  element("p", "What does it stand for?", game);
  const list = element("div", null, game, { class: "choices" });
  item.choices.forEach((choice, at) => button(`${at + 1}  ${choice}`, () => named(at, ""), list));
  const form = element("form", null, game, { class: "own" });
  const field = element("input", null, form, { "aria-label": "Your own words", placeholder: "or in your own words", maxlength: "512" });
  element("button", "Say so", form);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (field.value.trim()) named(null, field.value.trim());
  });
}

function marked(text, parent) {
  text.tokens.forEach((token, at) => {
    if (text.marks.includes(at)) element("mark", token, parent);
    else parent.append(token);
  });
}

function named(choice, written) {
  said[place] = { choice, written, answers: [] };
  show();
}

function sorting(item, own) {
  const at = own.answers.length;
  element("p", `Is it active somewhere in this text? ${at + 1} of ${item.sorted.length}`, game);
  element("p", item.sorted[at].tokens.join(""), game, { class: "ask" });
  element("p", `You said: ${own.written || item.choices[own.choice]}`, game, { class: "small" });
  const keys = element("p", null, game, { class: "sort" });
  button("y  yes", () => sorted(true), keys);
  button("n  no", () => sorted(false), keys);
  button("back", back, keys);
}

function sorted(answer) {
  said[place].answers.push(answer);
  if (said[place].answers.length === record.items[place].sorted.length) place += 1;
  show();
}

function back() {
  const own = said[place];
  if (own && own.answers.length) own.answers.pop();
  else if (own) said.pop();
  else if (place > 0) {
    place -= 1;
    said[place].answers.pop();
  }
  show();
}

// Wilson's interval, and the joint one of two shares (MOVER), as the command line reckons them.
function wilson(right, count) {
  const z = 1.959963984540054, share = right / count, extra = (z * z) / count;
  const half = z * Math.sqrt((share * (1 - share)) / count + extra / (4 * count));
  return [share, (share + extra / 2 - half) / (1 + extra), (share + extra / 2 + half) / (1 + extra)];
}

function balanced(answers) {
  const cells = { tp: 0, fn: 0, tn: 0, fp: 0 };
  record.items.forEach((item, one) => item.truths.forEach((truth, at) => {
    const answer = answers[one][at];
    if (answer !== null) cells[truth ? (answer ? "tp" : "fn") : (answer ? "fp" : "tn")] += 1;
  }));
  if (!(cells.tp + cells.fn) || !(cells.tn + cells.fp)) return null;
  const a = wilson(cells.tp, cells.tp + cells.fn), b = wilson(cells.tn, cells.tn + cells.fp);
  const value = (a[0] + b[0]) / 2;
  return [value, Math.max(0, value - Math.hypot(a[0] - a[1], b[0] - b[1]) / 2), Math.min(1, value + Math.hypot(a[2] - a[0], b[2] - b[0]) / 2)];
}

function reveal() {
  element("h2", "The round", game, { tabindex: "-1" });
  const chosen = said.filter((one) => one.choice !== null);
  const right = said.filter((one, at) => one.choice === record.items[at].right).length;
  const rows = [["you", said.map((one) => one.answers)], ...record.machines.map((one) => [one.player, one.answers])];
  const scores = element("table", null, element("div", null, game, { class: "scroll" }), { id: "scores" });
  const head = element("tr", null, scores);
  for (const name of ["player", "balanced accuracy", "95 % interval"]) element("th", name, head);
  for (const [player, answers] of rows) {
    const found = balanced(answers), row = element("tr", null, scores);
    element("td", player, row);
    element("td", found ? found[0].toFixed(3) : "-", row);
    element("td", found ? `${found[1].toFixed(3)} to ${found[2].toFixed(3)}` : "-", row);
  }
  if (chosen.length) element("p", `You chose the right sentence ${right} of ${chosen.length} times.`, game);
  element("p", "What each feature stands for; open it to see where it is active in the ten texts.", game, { class: "small" });
  record.items.forEach((item, at) => answers(item, said[at], at));
  button("Save as JSON", save, element("p", null, game));
  game.querySelector("h2").focus();
}

// One feature after the round: its sentence, and of each text the truth and what everybody said.
function answers(item, own, number) {
  const told = element("details", null, game), head = element("summary", null, told);
  const count = own.answers.filter((answer, at) => answer === item.truths[at]).length;
  const choice = own.written ? `you wrote: ${own.written}` : own.choice === item.right ? "✓ chosen" : "✗ not chosen";
  element("code", item.feature, head);
  head.append(` ${item.choices[item.right]} `);
  element("span", `${choice}; ${count} of ${item.truths.length} texts right`, head, { class: "small" });
  const texts = element("ul", null, told, { class: "texts" });
  item.sorted.forEach((text, at) => {
    const line = element("li", null, texts);
    marked(text, line);
    const all = [["you", own.answers[at]], ...record.machines.map((one) => [one.player, one.answers[number][at]])];
    const words = all.filter(([, answer]) => answer !== null).map(([player, answer]) => `${player}: ${answer ? "yes" : "no"} ${answer === item.truths[at] ? "✓" : "✗"}`);
    element("div", `${item.truths[at] ? "active" : "silent"} · ${words.join(" · ")}`, line, { class: "small" });
  });
}

function save() {
  const text = JSON.stringify({ format: "gossamer.played.1", round: record.round, items: record.items.map((one) => one.feature), said }, null, 1);
  const link = element("a", null, null, { href: `data:application/json,${encodeURIComponent(text)}`, download: `game-${record.round}.json` });
  link.click();
}

document.addEventListener("keydown", (event) => {
  if (event.target.tagName === "INPUT" || event.ctrlKey || event.metaKey || event.altKey || place >= record.items.length) return;
  const item = record.items[place], own = said[place];
  if (!own && /^[1-4]$/.test(event.key) && Number(event.key) <= item.choices.length) named(Number(event.key) - 1, "");
  else if (own && event.key === "y") sorted(true);
  else if (own && event.key === "n") sorted(false);
  else if (event.key === "Backspace") back();
  else return;
  event.preventDefault();
});
show();
