// Search in all of a log. The server looks through it and tells of matches as it finds them.

const number = new Intl.NumberFormat("en");
const OFF = ", then the search broke off";

class LogSearch {
  /** @param {LogWindow} log */
  constructor(log) {
    this.log = log;
    this.text = "";
    this.count = 0;
    this.current = 0; // the line of the match that is shown
    this.place = -1; // of it, in seqs
    this.end = ""; // what comes after the count, until the search is done
    /** @type {number[]} */
    this.seqs = [];
    /** @type {Set<number>} */
    this.marks = new Set();
    /** @type {AbortController | null} */
    this.asking = null;
    this.frame = 0;
    this.field = /** @type {HTMLInputElement} */ (log.root.querySelector(".log-find [name=q]"));
    this.told = /** @type {HTMLElement} */ (log.root.querySelector(".log-found"));
    let wait = 0;
    const enter = (/** @type {Event} */ event, by = 1) => {
      event.preventDefault();
      clearTimeout(wait);
      if (this.field.value.toLowerCase() === this.text && this.end !== OFF) this.step(by);
      else this.start();
    };
    this.field.form?.addEventListener("submit", (event) => enter(event));
    this.field.addEventListener("input", () => {
      clearTimeout(wait);
      wait = window.setTimeout(() => this.start(), 250);
    });
    this.field.addEventListener("keydown", (event) => {
      if (event.key === "Enter") enter(event, event.shiftKey ? -1 : 1);
      else if (event.key === "Escape") {
        this.field.value = "";
        this.start();
        log.view.focus();
      }
    });
    if (this.field.value) this.start();
  }

  focus() {
    this.field.focus();
    this.field.select();
  }

  async start() {
    this.asking?.abort();
    this.text = this.field.value.toLowerCase();
    Object.assign(this, { count: 0, current: 0, place: -1, seqs: [] });
    this.marks.clear();
    this.log.redraw();
    say(({ searchParams }) => (this.text ? searchParams.set("q", this.field.value) : searchParams.delete("q")));
    if (this.text) await this.read(0);
    this.tellSoon();
  }

  /** @param {number} after the line after which to search */
  async read(after) {
    const asking = (this.asking = new AbortController());
    const before = this.count;
    this.end = "…";
    try {
      const answer = await fetch(`${this.log.address}/search?${this.log.query}&after=${after}&q=${encodeURIComponent(this.field.value)}`, { signal: asking.signal });
      const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      while (reader) {
        const { done, value } = await reader.read();
        if (done) break;
        const lines = (rest + value).split("\n");
        rest = lines.pop() || "";
        for (const line of lines) this.take(JSON.parse(line), before);
      }
    } catch {
      // What is not done has broken off.
    }
    if (!asking.signal.aborted) this.end &&= OFF;
  }

  /** @param {{count: number, seqs: number[], marks: number[], done?: boolean}} part @param {number} before */
  take(part, before) {
    if (part.done) {
      this.end = "";
      return;
    }
    const first = this.seqs.length === 0;
    if (this.seqs.length === before) this.count = before;
    this.seqs.push(...part.seqs);
    this.count = before + part.count;
    for (const mark of part.marks) this.marks.add(mark);
    if (first && this.seqs.length) this.nearest();
    this.tellSoon();
  }

  /** Go to the first match from here on; if there is none yet, to the first of all. */
  nearest() {
    const here = this.log.known.get(this.log.anchor)?.seq || 0;
    const place = this.seqs.findIndex((seq) => seq >= here);
    this.show(place >= 0 ? place : 0);
  }

  /** @param {number} by */
  async step(by) {
    if (!this.seqs.length) return;
    const place = this.place + by;
    if (place >= this.seqs.length && this.count > this.seqs.length) {
      const all = this.count;
      this.count = this.seqs.length;
      await this.read(this.seqs[this.seqs.length - 1]);
      this.count = Math.max(all, this.count);
    }
    await this.show((place + this.seqs.length) % this.seqs.length);
  }

  /** @param {number} place */
  async show(place) {
    this.place = place;
    this.current = this.seqs[place];
    this.tell();
    await this.log.goTo(`seq=${this.current}`);
    this.log.mark();
  }

  /** Tell what was found so far, once a frame. */
  tellSoon() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.tell();
      this.log.drawMap();
    });
  }

  tell() {
    const { count, end } = this, none = !this.text ? "" : end === OFF ? "the search broke off" : end ? "searching…" : "no match";
    this.told.textContent = count ? `${number.format(this.place + 1)} of ${number.format(count)}${end}` : none;
  }
}
