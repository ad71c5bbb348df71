// Finds rows. Everything is in the page: it works from a disk, without a network.
"use strict";
(() => {
  const SHOWN = 200;
  const tables = JSON.parse(document.getElementById("rows").textContent);
  const search = document.getElementById("search");
  const lower = tables.map((rows) => rows.map((row) => row.slice(1).join("\n").toLowerCase()));
  const shown = tables.map(() => SHOWN);

  function fill(number, words) {
    const section = document.getElementById("section-" + number);
    const found = [];
    lower[number].forEach((text, place) => { if (words.every((word) => text.includes(word))) found.push(place); });
    const body = section.querySelector("tbody");
    body.replaceChildren(...found.slice(0, shown[number]).map((place) => {
      const row = document.createElement("tr");
      row.className = tables[number][place][0];
      for (const cell of tables[number][place].slice(1)) row.insertCell().textContent = cell;
      return row;
    }));
    const left = found.length - Math.min(found.length, shown[number]);
    section.querySelector(".found").textContent = words.length ? found.length.toLocaleString() + " of " + tables[number].length.toLocaleString() + " match" : "";
    const more = section.querySelector(".more");
    more.hidden = !left;
    more.textContent = "Show more (" + left.toLocaleString() + " left)";
  }
  function find() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    tables.forEach((_, number) => { shown[number] = SHOWN; fill(number, words); });
    for (const one of document.querySelectorAll("details.client")) one.hidden = !words.every((word) => one.dataset.text.toLowerCase().includes(word));
    history.replaceState(null, "", words.length ? "#" + encodeURIComponent(search.value) : location.pathname + location.search);
  }
  let waiting;
  search.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(find, 150); });
  document.addEventListener("click", (event) => {
    const button = event.target.closest(".more");
    if (!button) return;
    const number = Number(button.closest("section").id.slice(8));
    shown[number] += 5 * SHOWN;
    fill(number, search.value.toLowerCase().split(/\s+/).filter(Boolean));
  });
  document.getElementById("find").hidden = false;
  document.querySelectorAll(".cut").forEach((note) => { note.hidden = true; });
  if (location.hash.length > 1) {
    try { search.value = decodeURIComponent(location.hash.slice(1)); } catch { search.value = ""; }
  }
  find();
})();
