// Keys: pages, rows, the help, and menus that close. A page may have more: log.js has those of the log.

const GO = { j: "/", r: "/runs", s: "/schedule", h: "/hosts", a: "/activity" };
const help = /** @type {HTMLDialogElement | null} */ (document.getElementById("help"));
let awaited = false;

// The title says the state, also when it changes.
new MutationObserver(() => {
  document.title = document.querySelector("main [data-title]")?.getAttribute("data-title") || document.title;
}).observe(document.body, { subtree: true, childList: true, attributeFilter: ["data-title"] });

// Who comes back to the answer to a form, or loads it again, gets the page of its address: the form is not sent again.
const { address } = document.documentElement.dataset;
if (address) history.replaceState(history.state, "", address);

/** @param {EventTarget | null} target */
const types = (target) =>
  target instanceof HTMLElement && (target.isContentEditable || target.matches("input:not([type=checkbox], [type=radio]), textarea, select"));

/** The rows that j and k walk through. @returns {HTMLElement[]} */
const rows = () =>
  [.../** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-row], main .table tbody tr, main .list > li"))].filter((row) => row.offsetParent !== null);

/** @returns {HTMLElement | null} */
const here = () => {
  const row = document.activeElement?.closest("[data-row], tbody tr, .list > li");
  return row instanceof HTMLElement ? row : null;
};

/** @param {HTMLElement} row */
function enter(row) {
  if (!row.hasAttribute("tabindex")) row.tabIndex = -1;
  row.focus({ preventScroll: true });
  row.scrollIntoView({ block: "nearest" });
}

/** @param {number} by */
function move(by) {
  const all = rows();
  const row = here();
  const at = row ? all.indexOf(row) + by : by > 0 ? 0 : all.length - 1;
  const next = all[Math.max(0, Math.min(at, all.length - 1))];
  if (next) enter(next);
}

// Who opened a row with a key, and comes back, goes on at that row.
const left = document.getElementById(history.state?.row || "");
if (left) enter(left);

/** Press what a row, or else the page, has for a key. @param {string} key */
function press(key) {
  const row = here();
  const found = row?.querySelector(`[data-key~="${key}"]`) || document.querySelector(`main .head [data-key~="${key}"]`);
  if (found instanceof HTMLElement) found.click();
}

function find() {
  const input = document.getElementById("find");
  if (input instanceof HTMLInputElement) {
    input.focus();
    input.select();
  }
}

/** @type {Record<string, () => void>} */
const DO = {
  "/": find,
  "?": () => help?.showModal(),
  j: () => move(1),
  k: () => move(-1),
  x: () => {
    const box = here()?.querySelector("input[type=checkbox]");
    if (box instanceof HTMLInputElement) box.click();
  },
  r: () => press("r"),
  c: () => press("c"),
  Enter: () => {
    const row = here(), link = row?.querySelector("a.name, a[href]");
    if (!row || !(link instanceof HTMLElement)) return;
    history.replaceState({ ...history.state, row: row.id }, "");
    link.click();
  },
};

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      menu.removeAttribute("open");
      menu.querySelector("summary")?.focus();
    }
  }
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || types(event.target)) return;
  if (document.querySelector("dialog[open]")) return;
  if (awaited) {
    awaited = false;
    const address = GO[/** @type {keyof typeof GO} */ (event.key)];
    if (address) {
      event.preventDefault();
      location.href = address;
    }
    return;
  }
  if (event.key === "g") {
    awaited = true;
    setTimeout(() => (awaited = false), 1500);
    return;
  }
  const act = DO[event.key];
  // Enter on a link or a button is the browser's own.
  if (!act || (event.key === "Enter" && document.activeElement !== here())) return;
  event.preventDefault();
  act();
});

// A menu that opens is in sight, and a question can be answered at once.
document.addEventListener("toggle", ({ target }) => {
  if (!(target instanceof HTMLDetailsElement && target.open && target.matches(".menu"))) return;
  target.lastElementChild?.scrollIntoView({ block: "nearest" });
  const field = target.querySelector(".ask-form input:not([type=hidden])");
  if (field instanceof HTMLElement) field.focus({ preventScroll: true });
}, true);

// A menu closes when one clicks or goes elsewhere.
for (const kind of ["pointerdown", "focusin"]) {
  document.addEventListener(kind, (event) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (event.target instanceof Node && !menu.contains(event.target)) menu.removeAttribute("open");
    }
  });
}

// What needs a script is shown once there is one, also where it comes later.
document.documentElement.classList.add("is-scripted");
document.addEventListener("click", async (event) => {
  const button = event.target instanceof Element ? event.target.closest("[data-help], [data-copy]") : null;
  if (!(button instanceof HTMLElement)) return;
  if (button.dataset.help !== undefined) {
    help?.showModal();
    return;
  }
  await navigator.clipboard.writeText(button.dataset.copy || "");
  button.classList.add("is-done");
  button.title = button.ariaLabel = "Copied";
});
