(() => {
  const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];

  // A node is shown in its box of the map, its card and its row. Pointing at one lights all of them.
  const places = new Map();
  for (const element of all("[data-node]")) {
    const key = element.dataset.node;
    places.set(key, [...(places.get(key) || []), element]);
  }
  for (const [index, elements] of places) {
    const light = (on) => {
      elements.forEach((element) => element.classList.toggle("lit", on));
      map.light(Number(index), on);
    };
    for (const element of elements) {
      element.addEventListener("mouseenter", () => light(true));
      element.addEventListener("mouseleave", () => light(false));
      element.addEventListener("focusin", () => light(true));
      element.addEventListener("focusout", () => light(false));
    }
  }

  // The circuit's map: what is chosen in it is lit everywhere else, and the other way round.
  const map = mountCircuitMap(document.getElementById("map"), JSON.parse(document.getElementById("map-data").textContent));
  let lit = [];
  document.addEventListener("circuit-focus", (event) => {
    lit.forEach((element) => element.classList.remove("lit"));
    lit = event.detail.indices.flatMap((index) => places.get(String(index)) || []);
    lit.forEach((element) => element.classList.add("lit"));
  });

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
    // The map links to rows that the filter may hide.
    window.addEventListener("hashchange", () => { filter.value = ""; apply(); });

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
})();
