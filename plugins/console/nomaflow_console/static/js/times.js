// Times: tells the server the browser's zone, counts durations, and shows a time in all three zones with its age.

const YEAR = 365 * 24 * 3600;

/** The zone that the cookie says. */
const zone = () => /(?:^|; )zone="?([^";]*)/.exec(document.cookie)?.[1] || "";

/** @param {string} name @param {string} value */
function keep(name, value) {
  document.cookie = `${name}=${value}; path=/; max-age=${value ? YEAR : 0}; samesite=strict`;
}

// The zone, once it is another one than the server knows. The page is loaded again, since the server renders times.
const yours = Intl.DateTimeFormat().resolvedOptions().timeZone;
const [known, mode] = zone().split(":").reverse();
if (yours && known !== yours) {
  keep("zone", mode ? `${mode}:${yours}` : yours);
  if (document.querySelector("time[data-at]") && zone().endsWith(yours)) location.reload();
}

/** A time span as the server writes it: nomaflow_api/time_spans.py. @param {number} seconds */
export function took(seconds) {
  let text = "", left = Math.floor(Math.max(seconds, 0));
  for (const [size, unit] of /** @type {[number, string][]} */ ([[86400, " d"], [3600, " h"], [60, " min"], [1, " s"]])) {
    const number = Math.floor(left / size);
    left %= size;
    if (text) return number ? `${text} ${size < 3600 && number < 10 ? 0 : ""}${number}${unit}` : text;
    if (number) text = number + unit;
  }
  return text || "0 s";
}

// The clock of the browser may be wrong: durations are counted by the difference to the server's, told by the page.
const served = Date.parse(document.documentElement.dataset.now || "");
const ahead = served ? Date.now() - served : 0;
const now = () => Date.now() - (Math.abs(ahead) > 2000 ? ahead : 0);

function tick() {
  for (const each of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(".ticks"))) {
    const { since, until } = each.dataset;
    const seconds = since ? (now() - Date.parse(since)) / 1000 : until ? (Date.parse(until) - now()) / 1000 : 0;
    const text = took(seconds);
    if (each.textContent !== text) each.textContent = text;
  }
  for (const each of /** @type {NodeListOf<HTMLProgressElement>} */ (document.querySelectorAll("progress[data-from]"))) {
    const from = Date.parse(each.dataset.from || ""), end = Date.parse(each.dataset.until || "");
    each.value = Math.min(Math.max((now() - from) / (end - from), 0), 1);
  }
}
tick();
setInterval(() => document.hidden || tick(), 1000);
document.addEventListener("visibilitychange", () => document.hidden || tick());

// The tip: at a time, or at the one in the link that has the focus. Rows that j and k walk through have none: it would
// cover the next row.
/** @type {HTMLElement | null} */
let tip = null;

/** @param {EventTarget | null} target @returns {HTMLElement | null} */
function timeOf(target) {
  if (!(target instanceof Element)) return null;
  const reached = target instanceof HTMLElement && target.tabIndex >= 0 && target.matches(":focus-visible");
  return target.closest("time[data-at]") || (reached ? target.querySelector("time[data-at]") : null);
}

/** @param {HTMLElement} time */
function show(time) {
  hide();
  time.title = "";
  tip = Object.assign(document.createElement("div"), { className: "tip", id: "tip", role: "tooltip" });
  for (const line of (time.dataset.at || "").split("\n")) {
    const [label, value] = line.split("\t");
    const name = document.createElement("span");
    const text = document.createElement("b");
    const seconds = (now() - Date.parse(time.getAttribute("datetime") || "")) / 1000;
    name.textContent = label;
    text.textContent = label === "age" || label === "in" ? took(Math.abs(seconds)) : value;
    tip.append(name, text);
  }
  document.body.append(tip);
  const box = time.getBoundingClientRect(), own = tip.getBoundingClientRect();
  const below = box.bottom + 6 + own.height < innerHeight;
  // Through the object model: the policy forbids style attributes, not this.
  tip.style.left = `${Math.max(6, Math.min(box.left, innerWidth - own.width - 6))}px`;
  tip.style.top = `${below ? box.bottom + 6 : box.top - own.height - 6}px`;
}

function hide() {
  tip?.remove();
  tip = null;
}

for (const kind of ["pointerover", "focusin"]) {
  document.addEventListener(kind, (event) => {
    const time = timeOf(event.target);
    if (time) show(time);
    else if (kind === "focusin") hide();
  });
}
for (const kind of ["pointerout", "focusout", "scroll"]) document.addEventListener(kind, hide, { passive: true, capture: kind === "scroll" });
document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });

// Choices of zone and theme without a round trip of their own.
document.addEventListener("click", (event) => {
  const button = event.target instanceof Element ? event.target.closest("button[data-zone], button[data-theme-choice]") : null;
  if (!(button instanceof HTMLButtonElement)) return;
  event.preventDefault();
  if (button.dataset.zone !== undefined) {
    keep("zone", button.value);
    location.reload();
    return;
  }
  keep("theme", button.value);
  if (button.value) document.documentElement.dataset.theme = button.value;
  else delete document.documentElement.dataset.theme;
  document.querySelector('meta[name="color-scheme"]')?.setAttribute("content", button.value || "light dark");
  for (const each of document.querySelectorAll("button[data-theme-choice]")) {
    each.setAttribute("aria-pressed", String(each === button));
  }
  button.closest("details")?.removeAttribute("open");
});
