"use strict";
(() => {
  const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];

  // A node is shown in up to three places: its pill, its card and its row. Pointing at one lights all of them.
  const places = new Map();
  for (const element of all("[data-node]")) {
    const key = element.dataset.node;
    places.set(key, [...(places.get(key) || []), element]);
  }
  for (const elements of places.values()) {
    const light = (on) => elements.forEach((element) => element.classList.toggle("lit", on));
    for (const element of elements) {
      element.addEventListener("mouseenter", () => light(true));
      element.addEventListener("mouseleave", () => light(false));
      element.addEventListener("focusin", () => light(true));
      element.addEventListener("focusout", () => light(false));
    }
  }

  const map = document.getElementById("map");
  const panel = document.getElementById("edges");
  if (map && panel) traceEdges();

  // A node's edges: lines in the map, and a list under it. They stay until another node is pointed at, or Escape.
  function traceEdges() {
    const edges = JSON.parse(map.dataset.edges).map(([source, target, sign, size, weight, carried, head, shares]) =>
      ({ source, target, kind: sign > 0 ? "raises" : "lowers", size, weight, carried, head, shares }));
    const lines = document.getElementById("edge-lines");
    const start = panel.innerHTML;
    const pills = new Map(all(".pill", map).map((pill) => [Number(pill.dataset.node), pill]));
    const strongest = (list) => [...list].sort((a, b) => b.size - a.size);
    const sourcesOf = (node) => strongest(edges.filter((edge) => edge.target === node));
    const targetsOf = (node) => strongest(edges.filter((edge) => edge.source === node));
    const nameOf = (node) => node < 0 ? map.dataset.metric
      : [...document.getElementById("row-" + node).cells].slice(1, 4).map((cell) => cell.textContent.trim()).join(" ");
    const MOST_LABELS = 8;
    let chosen = null;

    const made = (name, text, kind) => {
      const element = document.createElement(name);
      if (text !== undefined) element.textContent = text;
      if (kind) element.className = kind;
      return element;
    };
    const drawn = (name, attributes) => {
      const element = document.createElementNS("http://www.w3.org/2000/svg", name);
      for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
      return lines.appendChild(element);
    };
    const middle = (node) => {
      const box = pills.get(node).querySelector("rect");
      const at = (key) => Number(box.getAttribute(key));
      return { x: at("x") + at("width") / 2, top: at("y"), bottom: at("y") + at("height") };
    };

    // Sites rise, so an edge goes up, from the top of its source to the bottom of its target; the metric is above all.
    const line = (edge) => {
      if (!pills.has(edge.source) || (edge.target >= 0 && !pills.has(edge.target))) return null;
      const from = middle(edge.source);
      const to = edge.target < 0 ? { x: from.x, bottom: 1 } : middle(edge.target);
      const bend = Math.max(14, (from.top - to.bottom) / 2);
      const colour = getComputedStyle(document.documentElement).getPropertyValue(edge.kind === "raises" ? "--ours" : "--against");
      drawn("path", {
        d: `M${from.x} ${from.top}C${from.x} ${from.top - bend} ${to.x} ${to.bottom + bend} ${to.x} ${to.bottom}`,
        stroke: colour, "stroke-width": 1 + 3 * Math.sqrt(edge.size), "marker-end": `url(#${edge.kind})`,
      });
      // Its label stands near the end that is not the chosen node.
      const t = edge.target === chosen ? 0.3 : 0.7;
      const along = (p, q, r, s) => p * (1 - t) ** 3 + 3 * q * t * (1 - t) ** 2 + 3 * r * t * t * (1 - t) + s * t ** 3;
      return {
        text: edge.weight + (edge.head ? " · " + edge.head : ""), style: "fill: " + colour,
        x: along(from.x, from.x, to.x, to.x) + 5,
        y: along(from.top, from.top - bend, to.bottom + bend, to.bottom) + 3,
      };
    };

    // Of many edges, or of two labels that would touch, the list alone has the numbers.
    const label = (found) => {
      const written = [];
      for (const one of found.length > MOST_LABELS ? [] : found) {
        const end = one.x + 6.2 * one.text.length;
        if (written.some((other) => Math.abs(other.y - one.y) < 12 && one.x < other.end && other.x < end)) continue;
        written.push({ ...one, end });
        drawn("text", { x: one.x, y: one.y, style: one.style }).textContent = one.text;
      }
    };

    const list = (title, found, end) => {
      const side = made("div", undefined, "side");
      side.append(made("h4", title));
      const items = side.appendChild(made("ul"));
      for (const edge of found) {
        const item = items.appendChild(made("li"));
        item.append(made("b", edge.weight, edge.kind), " ");
        if (edge[end] < 0) item.append(nameOf(-1));
        else {
          const other = item.appendChild(made("button", nameOf(edge[end])));
          other.type = "button";
          other.addEventListener("click", () => {
            const pill = pills.get(edge[end]);
            choose(edge[end]);
            if (pill) pill.focus({ preventScroll: true });
            else panel.querySelector("button")?.focus();
          });
        }
        const words = [edge.target < 0 ? "" : `carries ${edge.carried}`, edge.shares].filter(Boolean).join("; ");
        if (words) item.append(" ", made("small", words));
      }
      if (!found.length) side.append(made("p", "none among the strongest", "note"));
      return side;
    };

    const clear = () => {
      chosen = null;
      lines.replaceChildren();
      map.classList.remove("tracing");
      pills.forEach((pill) => pill.classList.remove("near", "chosen"));
      panel.innerHTML = start;
    };

    const choose = (node) => {
      if (node === chosen) return;
      clear();
      chosen = node;
      const [sources, targets] = [sourcesOf(node), targetsOf(node)];
      map.classList.add("tracing");
      for (const one of [node, ...sources.map((edge) => edge.source), ...targets.map((edge) => edge.target)]) {
        pills.get(one)?.classList.add("near");
      }
      pills.get(node)?.classList.add("chosen");
      const both = strongest([...sources, ...targets]);
      label(both.map(line).filter(Boolean));
      const sides = made("div", undefined, "sides");
      sides.append(list("comes from", sources, "source"), list("goes to", targets, "target"));
      panel.replaceChildren(made("h3", nameOf(node)), sides);
    };

    for (const [node, pill] of pills) {
      pill.addEventListener("mouseenter", () => choose(node));
      pill.addEventListener("focus", () => choose(node));
      pill.addEventListener("keydown", (event) => {
        const next = event.key === "ArrowUp" ? targetsOf(node).map((edge) => edge.target)
          : event.key === "ArrowDown" ? sourcesOf(node).map((edge) => edge.source) : null;
        if (!next) return;
        event.preventDefault();
        pills.get(next.find((one) => pills.has(one)))?.focus();
      });
    }
    document.addEventListener("keydown", (event) => { if (event.key === "Escape") clear(); });
  }

  const table = document.getElementById("table");
  if (table) {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const filter = document.getElementById("filter");
    const shown = document.getElementById("shown");
    const total = shown.textContent;
    const apply = () => {
      const wanted = filter.value.trim().toLowerCase();
      let count = 0;
      for (const row of rows) {
        row.hidden = !(row.dataset.cell + " " + row.textContent).toLowerCase().includes(wanted);
        count += row.hidden ? 0 : 1;
      }
      shown.textContent = wanted ? count + " of " + total : total;
    };
    filter.addEventListener("input", apply);
    for (const more of all("[data-filter]")) {
      more.addEventListener("click", () => { filter.value = more.dataset.filter; apply(); });
    }
    // A pill may point at a row that the filter hides.
    for (const pill of all(".pill")) {
      pill.addEventListener("click", () => { filter.value = ""; apply(); });
    }

    const key = (row, column) => row.cells[column].dataset.value;
    const compare = (a, b) => {
      if (a === "" || b === "") return (a === "") - (b === "");
      return isNaN(a) || isNaN(b) ? a.localeCompare(b, "en", { numeric: true }) : a - b;
    };
    all("th button", table).forEach((button, column) => {
      button.addEventListener("click", () => {
        const header = button.parentElement;
        const falling = header.getAttribute("aria-sort") === "ascending";
        all("th", table).forEach((other) => other.removeAttribute("aria-sort"));
        header.setAttribute("aria-sort", falling ? "descending" : "ascending");
        const known = rows.filter((row) => key(row, column) !== "").sort((a, b) => compare(key(a, column), key(b, column)));
        if (falling) known.reverse();
        body.append(...known, ...rows.filter((row) => key(row, column) === ""));
      });
    });
  }

  for (const box of all("[data-curve]")) {
    box.addEventListener("change", () => {
      for (const part of all('[id^="curve-' + box.dataset.curve + '-"]')) part.style.display = box.checked ? "" : "none";
    });
  }
})();
