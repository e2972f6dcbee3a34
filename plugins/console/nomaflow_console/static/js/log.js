// What a reader does with a log: keys, buttons, links to lines, selections and copies.

class LogReader extends LogWindow {
  listen() {
    this.view.addEventListener("scroll", () => this.scrolled(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(this.view);
    addEventListener("hashchange", () => this.goToHash());
    this.block.addEventListener("click", (event) => this.clicked(event));
    this.mapArea.addEventListener("click", (event) => {
      const box = this.mapArea.getBoundingClientRect();
      this.follow(false);
      this.jump(Math.floor(((event.clientY - box.top) / box.height) * this.rows), 0.3);
    });
    this.view.addEventListener("pointerdown", (event) => {
      if (event.shiftKey || !this.selected.lost) return;
      this.selected = { from: 0, to: 0, lost: false };
      this.mark();
    });
    document.addEventListener("selectionchange", () => this.select());
    document.addEventListener("copy", (event) => this.copySelection(event));
    document.addEventListener("keydown", (event) => this.key(event));
    const live = document.getElementById("live");
    live?.addEventListener("log", (event) => this.arrived(JSON.parse(/** @type {CustomEvent} */ (event).detail.data)));
    this.root.addEventListener("click", (event) => this.pressed(event));
    const times = part("[name=times]", HTMLSelectElement, this.root);
    times.value = this.times;
    times.addEventListener("change", () => {
      localStorage.setItem("log-times", (this.times = times.value));
      this.redraw();
    });
  }

  full(on = !this.root.classList.contains("is-full")) {
    this.root.classList.toggle("is-full", on);
    part("[data-do=full]", HTMLElement, this.root).setAttribute("aria-pressed", String(on));
  }

  /** @param {MouseEvent} event */
  clicked(event) {
    const anchor = event.target instanceof Element ? event.target.closest(".n") : null, seq = this.seqOf(anchor);
    if (!seq) return;
    event.preventDefault();
    this.pick((event.shiftKey && this.picked[0]) || seq, seq);
  }

  /** @param {MouseEvent} event */
  pressed(event) {
    const button = event.target instanceof Element ? event.target.closest("[data-do]") : null;
    if (button instanceof HTMLElement && this.act(button.dataset.do || "", button)) event.preventDefault();
  }

  /** @param {string} what @param {HTMLElement} [button] */
  act(what, button) {
    const does = {
      wrap: () => {
        const on = this.wraps ? "" : "1";
        localStorage.setItem("log-wrap", on);
        this.wrap(on);
        this.redraw();
      },
      full: () => this.full(),
      end: () => {
        this.toEnd();
        this.view.scrollIntoView({ block: "nearest" });
      },
      "next-error": () => this.nextError(),
      "previous-error": () => this.nextError(true),
      "next-match": () => this.search.step(1),
      "previous-match": () => this.search.step(-1),
      "copy-lines": () => this.copy(() => this.text(this.picked[0], this.picked[1])),
      "copy-report": () => this.copy(() => this.file(button?.dataset.from || "")),
      "copy-link": () => {
        const seq = this.known.get(this.anchor)?.seq || 1;
        if (!this.picked[0]) this.pick(seq, seq);
        this.copy(async () => location.href);
      },
    };
    const done = does[/** @type {keyof typeof does} */ (what)];
    done?.();
    return done !== undefined;
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if ((event.ctrlKey || event.metaKey) && event.key === "f" && document.activeElement !== this.search.field) {
      event.preventDefault();
      this.search.focus();
      return;
    }
    const elsewhere = document.querySelector("dialog[open]") || (event.target instanceof HTMLElement && event.target.matches("input, textarea, select"));
    if (event.key === "Escape" && this.root.classList.contains("is-full") && !elsewhere) this.full(false);
    if (event.ctrlKey || event.metaKey || event.altKey || elsewhere || event.defaultPrevented) return;
    const keys = { n: "next-match", N: "previous-match", e: "next-error", E: "previous-error", f: "full", w: "wrap", G: "end", y: "copy-link" };
    if (this.act(keys[/** @type {keyof typeof keys} */ (event.key)] || "")) event.preventDefault();
  }

  /** A text from the server. @param {string} address */
  async file(address) {
    const answer = await fetch(address);
    if (!answer.ok) throw Error("no answer");
    return answer.text();
  }

  /** The text of lines. @param {number} from @param {number} to */
  text(from, to) {
    return this.file(`${this.address}.txt?${this.query}&from=${from}&to=${to}`);
  }

  /** @param {() => Promise<string>} source */
  async copy(source) {
    try {
      const text = await source();
      await navigator.clipboard.writeText(text);
      this.say(`copied ${many(text.length, "character")}`);
    } catch (error) {
      this.say(`nothing was copied: ${/** @type {Error} */ (error).message}`);
    }
  }

  /** Remember which lines a selection spans: those that leave the window take it with them. */
  select() {
    const selection = getSelection();
    const from = this.seqOf(selection?.anchorNode || null), to = this.seqOf(selection?.focusNode || null);
    if (this.selected.lost) {
      if (selection?.isCollapsed === false && to) this.selected.to = to;
    } else this.selected = { from: selection?.isCollapsed ? 0 : from, to: to || from, lost: false };
    if (this.selected.lost) this.mark();
  }

  /** @param {Node | null} node */
  seqOf(node) {
    const line = (node instanceof Element ? node : node?.parentElement)?.closest(".log-line");
    return line instanceof HTMLElement && this.block.contains(line) ? this.known.get(Number(line.dataset.row))?.seq || 0 : 0;
  }

  /** @param {ClipboardEvent} event */
  copySelection(event) {
    const { from, to, lost } = this.selected;
    const first = Math.min(from, to), last = Math.max(from, to);
    if (!from || first === last || !event.clipboardData) return;
    event.preventDefault();
    if (lost) {
      this.copy(() => this.text(first, last));
      return;
    }
    const lines = [...this.known.values()].filter((line) => line.seq >= first && line.seq <= last).sort((a, b) => a.row - b.row);
    const text = lines.map((line) => `${line.clock} ${line.level} ${line.logger} ${line.text.map((piece) => piece[0]).join("")}`);
    event.clipboardData.setData("text/plain", text.join("\n"));
  }
}

const root = document.getElementById("log");
if (root?.querySelector(".log-view")) {
  const log = new LogReader(root);
  log.start();
  Object.assign(root, { log }); // for the tests
}

// A filter is a page of its own: its address says what it shows.
document.querySelector(".log-filter")?.addEventListener("change", (event) => {
  if (event.target instanceof HTMLSelectElement) event.target.form?.requestSubmit();
});
document.querySelector(".log-filter")?.addEventListener("formdata", ({ formData }) => {
  const text = new URL(location.href).searchParams.get("q");
  if (text) formData.set("q", text);
  else formData.delete("q");
});

// A try that somebody opens is in the address, beside the picked line, so that a reload and a pasted link show both.
document.addEventListener("click", (event) => {
  const summary = event.target instanceof Element && event.target.closest(".try > summary");
  if (!summary) return;
  const id = encodeURIComponent(summary.nextElementSibling?.id || "");
  const closes = summary.parentElement?.hasAttribute("open"), was = named("try-");
  name(named("L"), !closes ? id : decodeURIComponent(was) === decodeURIComponent(id) ? "" : was);
});
function openTry() {
  const opened = document.getElementById(decodeURIComponent(named("try-")))?.closest("details");
  if (opened) opened.open = true;
}
addEventListener("hashchange", ({ oldURL }) => {
  openTry();
  if (named("try-")) name(named("L") || named("L", oldURL), named("try-")); // a link to a try names no line
});
openTry();
