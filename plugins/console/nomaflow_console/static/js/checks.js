// Decides what an answer may change of a page: only what was asked for, if the answer has it. An error, or a page of
// somebody else, changes nothing. A form that is checked while one types says whether what stands there is of its values.
(() => {
  const form = /** @type {HTMLFormElement | null} */ (document.querySelector("form[hx-post]"));
  const own = ["0", "401", "503"]; // what ends by itself: no answer, no session, no kernel
  const most = 512 * 1024; // bytes that the console takes
  let typed = 0; // the edits so far
  let known = 0; // those that the newest answer is of
  let why = ""; // no answer has come for them; a status, 0 if nobody answered
  let timer = 0;

  /** @param {string} what @param {(each: HTMLElement) => boolean} shown */
  const show = (what, shown) => {
    for (const each of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(what))) each.hidden = !shown(each);
  };

  const say = () => {
    const stale = known < typed;
    show("[data-checked]", () => !stale);
    show("[data-checking]", () => stale && !why);
    show("[data-unchecked]", () => stale && Boolean(why));
    show("[data-why]", (each) => each.dataset.why === why);
  };

  const again = () => {
    if (known === typed) return;
    const waits = document.hidden || document.querySelector("#kernel-line .is-away, #live-bar:not([hidden])");
    if (waits) timer = setTimeout(again, 1000);
    else htmx.trigger(form, "recheck");
  };

  /** @param {{sourceElement: Element, typed: number, text?: string}} ctx @param {number} status */
  const failed = (ctx, status) => {
    if (!form?.contains(ctx.sourceElement) || ctx.typed < typed || known === typed) return;
    const page = new DOMParser().parseFromString(ctx.text || "", "text/html");
    const said = page.querySelector(".problem p")?.firstChild?.textContent?.trim();
    for (const each of document.querySelectorAll("[data-said]")) each.textContent = said ? `: ${said}` : "";
    why = [502, 504].includes(status) ? "0" : String(status);
    if (!document.querySelector(`[data-why="${why}"]`)) why = "other";
    say();
    clearTimeout(timer);
    if (own.includes(why)) timer = setTimeout(again, 3000);
  };

  /** @param {string} name @param {(detail: any, event: Event) => void} act */
  const on = (name, act) => document.addEventListener(name, (event) => act(/** @type {CustomEvent} */ (event).detail, event));

  on("htmx:config:request", ({ ctx }) => (ctx.typed = typed));
  on("htmx:before:swap", ({ ctx, tasks }, event) => {
    const status = ctx.response?.status ?? 200;
    const main = tasks.find((/** @type {{type: string}} */ { type }) => type === "main");
    const lacks = ctx.select && !main?.fragment.childElementCount;
    const late = form?.contains(ctx.sourceElement) && ctx.typed < known;
    if (status >= 400 || lacks || late) event.preventDefault();
    if (status >= 400 || lacks) failed(ctx, status);
  });
  on("htmx:after:swap", ({ ctx }) => {
    if (!form?.contains(ctx.sourceElement)) return;
    known = Math.max(known, ctx.typed);
    if (known === typed) why = "";
    say();
  });
  on("htmx:error", ({ ctx }) => ctx && failed(ctx, 0));
  form?.addEventListener("input", () => (typed++, say()), true);
  // What is too large is not kept by the page that refuses it. A browser sends the end of a line as two characters.
  form?.addEventListener("submit", (event) => {
    const fields = /** @type {[string, string][]} */ ([...new FormData(form)]);
    if (String(new URLSearchParams(fields)).replaceAll("%0A", "%0D%0A").length < most) return;
    event.preventDefault();
    why = "413";
    known = typed - 1;
    say();
  });
})();
