// The rows of a log that the page knows. They are counted from 0 among the lines that the page's filter keeps; the
// server knows which line each row is.

const KEPT = 4000; // rows kept in memory
const MOST_ROWS = 700; // above or below the anchor of a window, with those that are folded
const STEP = 250; // rows asked for in addition, where too few of a window are shown
const TRACEBACK_ROWS = 100; // of one traceback that fold: a window must not be empty

/** @typedef {{row: number, seq: number, at: number, day: string, clock: string, level: string, kind: string,
 *   logger: string, step: string, try: number, text: [string, string][], cut?: number, older?: string[],
 *   continued?: boolean, shared?: boolean, head?: number}} Line head: the row of the traceback that it is a frame of */
/** @typedef {{rows: number, first: number, row: number, last_seq: number, lines: Line[], map?: number[]}} Shown */

/** @template {Element} T @param {string} name @param {new () => T} kind @param {ParentNode} [below] @returns {T} */
function part(name, kind, below = document) {
  const found = below.querySelector(name);
  if (!(found instanceof kind)) throw new Error(`no ${name} on this page`);
  return found;
}

/** @param {number} count @param {string} noun */
const many = (count, noun) => `${number.format(count)} ${noun}${count === 1 ? "" : "s"}`;

/** Change what the address says, without a new page. @param {(address: URL) => void} change */
function say(change) {
  const address = new URL(location.href);
  change(address);
  if (address.href !== location.href) history.replaceState(history.state, "", address);
}

/** The part of the fragment of a kind, of #L5-L9&try-score-1: the picked lines, or the try that was opened last.
 *  @param {string} kind @param {string} [address] */
const named = (kind, address = location.href) => new URL(address).hash.slice(1).split("&").find((each) => each.startsWith(kind)) || "";

/** @param {string} lines @param {string} opened */
const name = (lines, opened) => say((address) => (address.hash = [lines, opened].filter(Boolean).join("&")));

class LogRows {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
    this.address = root.dataset.address || "";
    this.query = root.dataset.query || "";
    this.rows = Number(root.dataset.rows);
    this.anchor = Number(root.dataset.row); // the row at the top of what is in sight
    /** @type {Map<number, Line>} */
    this.known = new Map();
    /** @type {number[]} */
    this.levels = [];
    /** @type {AbortController | null} */
    this.asking = null;
    this.news = { lines: 0, errors: 0 };
  }

  /** Ask for rows that are not known. Returns false if another question came in between. @param {number} first @param {number} last */
  async have(first, last) {
    while (first < last && this.known.has(first)) first++;
    while (first < last && this.known.has(last - 1)) last--;
    if (first >= last) return true;
    this.asking?.abort();
    const asking = (this.asking = new AbortController());
    const shown = await this.ask(`row=${first}&before=0&count=${last - first}`, asking.signal);
    if (!shown || asking.signal.aborted) return false;
    this.take(shown);
    return true;
  }

  /** @param {string} what @param {AbortSignal} [signal] @returns {Promise<Shown | null>} */
  async ask(what, signal) {
    try {
      const answer = await fetch(`${this.address}/lines?${this.query}&${what}`, { signal });
      this.root.classList.toggle("is-away", !answer.ok);
      return answer.ok ? await answer.json() : null;
    } catch (error) {
      if (!(error instanceof DOMException)) this.root.classList.add("is-away");
      return null;
    }
  }

  /** @param {Shown} shown */
  take(shown) {
    this.rows = Math.max(this.rows, shown.rows || 0);
    const last = shown.lines[shown.lines.length - 1];
    if (last) this.root.style.setProperty("--digits", `${Math.max(4, number.format(last.seq).length)}ch`);
    for (const line of shown.lines) this.known.set(line.row, line);
    if (last) this.findTracebacks(shown.lines[0].row, last.row);
    if (this.known.size > KEPT) {
      const near = (/** @type {number} */ row, /** @type {number} */ place) => Math.abs(row - place) < KEPT / 4;
      for (const row of this.known.keys()) if (!near(row, this.anchor) && !near(row, shown.first)) this.known.delete(row);
    }
  }

  /** Find the lines of tracebacks that were printed line by line, among rows that have come. @param {number} row @param {number} last */
  findTracebacks(row, last) {
    for (let line; (line = this.known.get(row)); row++) {
      const before = this.known.get(row - 1), inside = line.text[0]?.[0].startsWith("  ");
      if (row > last && !inside) return;
      const head = before?.text.length === 1 && before.text[0][0] === TRACEBACK ? row - 1 : before?.head;
      line.head = inside && before?.logger === line.logger && head !== undefined && row - head <= TRACEBACK_ROWS ? head : undefined;
    }
  }

  /** The number of rows that are shown. @param {number} first @param {number} end */
  seen(first, end) {
    let count = 0;
    for (let row = first; row < end; row++) if (this.shows(row)) count++;
    return count;
  }

  /** The rows of a window in which enough of them are shown above and below one, once they are known; null if another
   *  question came in between. @param {number} row @param {number} above @param {number} below */
  async around(row, above, below) {
    let first = Math.max(0, row - above), end = Math.min(this.rows, row + below);
    while (await this.have(first, end)) {
      if (first > 0 && row - first < MOST_ROWS && this.seen(first, row) < above) first = Math.max(0, first - STEP);
      else if (end < this.rows && end - row < MOST_ROWS && this.seen(row, end) < below) end = Math.min(this.rows, end + STEP);
      else return [first, end];
    }
    return null;
  }

  /** @param {string} text */
  say(text) {
    part(".log-say", HTMLElement, this.root).textContent = text;
  }

  /** Read the levels of the log as it is now: each stretch of the map stands for more lines the longer it is. */
  async readMap() {
    const shown = await this.ask("row=0&count=1&map=1");
    this.levels = shown?.map || this.levels;
    this.drawMap();
  }

  drawMap() {}

  tellNews() {
    const { lines, errors } = this.news;
    if (lines) this.readMap();
    this.say(lines ? `${many(lines, "new line")}${errors ? `, ${many(errors, "error")}` : ""}` : "");
    this.news = { lines: 0, errors: 0 };
  }
}
