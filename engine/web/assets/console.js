// The console's script. Pages can be read and acted on without it: it shows local time, follows changes, and knows some keys.
"use strict";
(() => {
  const root = document.documentElement.dataset.root;
  document.documentElement.classList.add("scripted");

  // Instants: local time in the text, UTC on hover.
  const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
  const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
  function localTimes(within) {
    const today = new Date().toDateString();
    for (const element of within.querySelectorAll("time[datetime]:not([title])")) {
      const at = new Date(element.dateTime);
      if (isNaN(at)) continue;
      element.title = element.dateTime.replace("T", " ").replace(/\.000Z$/, "Z").replace("Z", " UTC");
      element.textContent = (at.toDateString() === today ? "" : day.format(at) + ", ") + clock.format(at);
    }
  }

  // The words of ticks below drawings. A day that begins at another hour here says at which.
  const minute = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  function localTicks(within) {
    for (const element of within.querySelectorAll("text[data-time]:not([data-local])")) {
      const at = new Date(element.dataset.time), hours = minute.format(at);
      element.dataset.local = "";
      if (isNaN(at) || at.getTimezoneOffset() === 0) continue;
      const isDay = /[A-Z]/.test(element.textContent), isMidnight = at.getHours() + at.getMinutes() + at.getSeconds() === 0;
      element.textContent = isMidnight ? day.format(at) : isDay ? day.format(at) + " " + hours : at.getSeconds() ? clock.format(at) : hours;
    }
  }

  // Forms carry the token of the process that runs now, also when the page is from before its restart.
  function token() {
    const fresh = document.getElementById("token");
    return (fresh && fresh.textContent.trim()) || document.body.dataset.token;
  }
  document.addEventListener("submit", (event) => {
    const field = event.target.querySelector("input[name=token]");
    if (field) field.value = token();
    const until = event.target.querySelector("input[name=until]");
    if (until && until.type === "datetime-local" && until.value) sendInstant(until);
  }, true);
  document.addEventListener("htmx:configRequest", (event) => {
    if (event.detail.parameters.token) event.detail.parameters.token = token();
    const until = event.detail.parameters.until;
    if (until) event.detail.parameters.until = new Date(until).toISOString();
  });
  // The field holds local time without a zone; what is sent is the instant.
  function sendInstant(field) {
    const at = new Date(field.value);
    if (isNaN(at)) return;
    const hidden = Object.assign(document.createElement("input"), { type: "hidden", name: field.name, value: at.toISOString() });
    field.removeAttribute("name");
    field.after(hidden);
  }

  // Until when a silence lasts, in local time.
  function nextAt(hour, weekday) {
    const at = new Date();
    at.setHours(hour, 0, 0, 0);
    do at.setDate(at.getDate() + 1); while (weekday !== undefined && at.getDay() !== weekday);
    return at;
  }
  function asField(at) {
    const two = (number) => String(number).padStart(2, "0");
    return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}T${two(at.getHours())}:${two(at.getMinutes())}`;
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-until]");
    if (button) {
      const form = button.closest("form");
      const field = form.querySelector("input[name=until]");
      const wanted = button.dataset.until;
      const at = wanted === "tomorrow" ? nextAt(8) : wanted === "monday" ? nextAt(8, 1) : new Date(Date.now() + 3600e3 * Number(wanted));
      field.value = asField(at);
      field.dispatchEvent(new Event("change", { bubbles: true }));
      for (const other of form.querySelectorAll("[data-until]")) other.setAttribute("aria-pressed", String(other === button));
    }
    const place = event.target.closest("[data-goto]");
    if (place) goToLine(document.getElementById("text"), Number(place.dataset.goto));
    if (event.target.closest("[data-help]")) help();
    if (event.target.closest("[data-pause]")) pause(event.target.closest("[data-pause]"));
  });

  // A line of the file that is edited.
  function goToLine(area, number) {
    const lines = area.value.split("\n");
    const start = lines.slice(0, number - 1).join("\n").length + (number > 1 ? 1 : 0);
    area.focus();
    area.setSelectionRange(start, start + (lines[number - 1] || "").length);
    showLine(area, number);
  }
  function showLine(area, number) {
    area.scrollTop = Math.max(0, (number - 2) * parseFloat(getComputedStyle(area).lineHeight));
  }
  const edited = document.querySelector("textarea[data-line]");
  if (edited) showLine(edited, Number(edited.dataset.line));

  // Changes: a page says when they no longer arrive, and can be held still.
  let isPaused = false;
  function pause(button) {
    isPaused = !isPaused;
    button.setAttribute("aria-pressed", String(isPaused));
    button.textContent = isPaused ? "Go on updating" : "Pause updates";
    if (!isPaused) location.reload();
  }
  document.addEventListener("htmx:sseBeforeMessage", (event) => {
    if (isPaused && event.target.id === "live") event.preventDefault();
  });
  // A connection that ends and is back at once, as it does every few minutes, is no news.
  const lost = document.getElementById("lost");
  const ended = document.getElementById("ended");
  let since = 0;
  function lose() {
    if (!since) since = setTimeout(tell, 4000);
  }
  // Nothing comes back by itself when the session has ended.
  async function tell() {
    const me = await fetch(`${root}v1/me`).then((answer) => answer.json(), () => ({})).catch(() => ({}));
    if (!since) return;
    ended.hidden = !(me.login && me.name === null);
    lost.hidden = !ended.hidden;
  }
  document.addEventListener("htmx:sseError", lose);
  window.addEventListener("offline", lose);
  document.addEventListener("htmx:sseOpen", () => { clearTimeout(since); since = 0; lost.hidden = true; ended.hidden = true; });

  // What is replaced keeps what a person did with it: where the keyboard is, and what is folded out.
  let before = null;
  document.addEventListener("htmx:sseBeforeMessage", (event) => {
    if (event.target.id === "live") before = stateOf(event.target);
  });
  function stateOf(part) {
    const at = part.contains(document.activeElement) ? document.activeElement : null;
    const folds = [...part.querySelectorAll("details")].map((one) => [one.querySelector("summary").textContent, one.open]);
    return { key: at && keyOf(at), folds: new Map(folds) };
  }
  function keyOf(element) {
    const row = element.closest(".row");
    const link = row && row.querySelector(".go[href]");
    return [link ? link.getAttribute("href") : "", element.tagName, element.id, element.getAttribute("href"), element.dataset.key].join(" ");
  }
  function restore(part) {
    if (!before) return;
    for (const one of part.querySelectorAll("details")) {
      const was = before.folds.get(one.querySelector("summary").textContent);
      if (was !== undefined) one.open = was;
    }
    if (before.key && (document.activeElement === document.body || !document.activeElement)) {
      const again = [...part.querySelectorAll("a, button, summary, [tabindex]")].find((one) => keyOf(one) === before.key);
      if (again) again.focus({ preventScroll: true });
    }
    before = null;
  }
  document.addEventListener("htmx:afterSwap", (event) => localTimes(event.target));
  document.addEventListener("htmx:sseMessage", (event) => {
    if (event.target.id !== "live") return;
    localTimes(event.target);
    restore(event.target);
    const title = document.querySelector("[data-title]");
    if (title) document.title = title.dataset.title + " · Rollcall";
  });

  // Keys.
  function help() {
    const dialog = document.getElementById("help");
    if (dialog && !dialog.open) dialog.showModal();
  }
  function move(by) {
    const rows = [...document.querySelectorAll(".row .go")];
    if (!rows.length) return;
    const at = rows.findIndex((row) => row.closest(".row").contains(document.activeElement));
    rows[Math.min(rows.length - 1, Math.max(0, at < 0 ? (by > 0 ? 0 : rows.length - 1) : at + by))].focus();
  }
  function act(key) {
    const row = document.activeElement && document.activeElement.closest(".row");
    const wanted = (row || document).querySelector(`[data-key=${key}]`);
    if (wanted) wanted.click();
  }
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest && event.target.closest("input, textarea, select, dialog");
    if (event.key === "Escape" && typing && event.target.id === "search") event.target.blur();
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const keys = {
      "/": () => document.getElementById("search").focus(), j: () => move(1), k: () => move(-1),
      a: () => act("a"), s: () => act("s"), "?": help, g: () => { location.href = root; },
    };
    if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
  });

  localTimes(document);
  localTicks(document);
})();
