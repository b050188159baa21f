"use strict";
// Sorting and filtering of the table of all rows. The page says everything without it.
(() => {
  const table = document.getElementById("all-rows");
  const filters = document.getElementById("filters");
  if (!table || !filters) return;
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const selects = Array.from(filters.querySelectorAll("select"));
  const search = filters.querySelector("input");
  const count = document.getElementById("count");

  for (const select of selects) {
    const values = [...new Set(rows.map((row) => row.dataset[select.name]))];
    for (const value of values) select.add(new Option(value, value));
  }

  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const keep = selects.every((s) => !s.value || row.dataset[s.name] === s.value) && words.every((w) => text.includes(w));
      row.hidden = !keep;
      shown += keep;
    }
    count.textContent = `${shown} of ${rows.length} rows`;
  }

  function sort(header, column) {
    const falling = header.getAttribute("aria-sort") === "ascending";
    for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
    const number = (row) => (value(row) === "" ? NaN : Number(value(row)));
    const numeric = header.classList.contains("number");
    const sign = falling ? -1 : 1;
    rows.sort((a, b) => {
      if (!numeric) return sign * value(a).localeCompare(value(b), undefined, { numeric: true });
      const [x, y] = [number(a), number(b)];
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
      return sign * (x - y);
    });
    body.append(...rows);
  }

  Array.from(table.tHead.rows[0].cells).forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => sort(header, column));
  });
  for (const select of selects) select.addEventListener("change", filter);
  search.addEventListener("input", filter);
  filters.addEventListener("reset", () => setTimeout(filter));
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.hidden = false;
  filter();
})();
