// The window over a log: at most 300 of its lines are on the page, however many there are, and the scrollbar is as long
// as all of them.

const MOST_HEIGHT = 8e6; // pixels: an element cannot be much higher in every browser
const MOST_LINES = 300;
const AROUND = 80; // rows kept above and below what is in sight

class LogWindow extends LogRows {
  /** @param {HTMLElement} root */
  constructor(root) {
    super(root);
    this.view = part(".log-view", HTMLElement, root);
    this.space = part(".log-space", HTMLElement, root);
    this.block = part(".log-lines", HTMLElement, root);
    this.mapArea = part(".log-map", SVGSVGElement, root);
    /** @type {Map<number, HTMLElement>} */
    this.nodes = new Map(); // of the rows that are shown; those of a traceback may be folded
    this.first = this.end = 0; // the rows of the window
    /** @type {Set<number>} */
    this.open = new Set();
    this.lead = 0; // how many pixels of it are above
    this.top = 0; // of the block
    this.lastPlace = 0; // of the scrollbar
    this.follows = root.dataset.follows === "true";
    this.error = -1; // the row of the error that was shown last
    this.picked = [0, 0];
    this.selected = { from: 0, to: 0, lost: false };
    this.rowHeight = 21;
    this.going = 0; // moves that are under way
    this.missed = false; // a scroll during them
    this.turn = 0;
    this.idle = 0;
    this.search = new LogSearch(this);
    this.wrap(localStorage.getItem("log-wrap") ?? (matchMedia("(max-width: 47rem)").matches ? "1" : ""));
    this.times = localStorage.getItem("log-times") || "clock";
  }

  async start() {
    this.rowHeight = this.measure();
    this.view.style.minHeight = `${this.view.offsetHeight}px`; // the page must not jump
    this.block.replaceChildren();
    this.root.classList.add("is-windowed");
    this.listen();
    await this.go(async () => {
      const opens = this.root.dataset.opens;
      if (opens) this.open.add((this.error = Number(opens)));
      if (await this.goToHash()) return;
      await (this.follows ? this.toEnd() : this.jump(this.anchor, opens ? 0.25 : 0));
    });
    this.view.style.minHeight = "";
    setInterval(() => this.tellNews(), 10_000);
    await this.readMap();
  }

  measure() {
    const line = this.block.firstElementChild;
    return (line instanceof HTMLElement && line.classList.contains("log-line") && !this.wraps && line.offsetHeight) || 21;
  }

  // --- where things are ---------------------------------------------------------------------------------------------

  get height() {
    return Math.min(this.rows * this.rowHeight, MOST_HEIGHT);
  }

  get inSight() {
    return Math.ceil(this.view.clientHeight / this.rowHeight);
  }

  /** The row that a place of the scrollbar means. @param {number} place */
  rowAt(place) {
    const last = Math.max(0, this.rows - this.view.clientHeight / this.rowHeight);
    return Math.floor((place / Math.max(1, this.height - this.view.clientHeight)) * last);
  }

  /** Take the row at the top of what is in sight as the anchor. */
  look() {
    const place = this.view.scrollTop - this.top;
    for (const [row, node] of this.nodes) {
      if (node.offsetTop + node.offsetHeight > place && node.offsetHeight) {
        this.anchor = row;
        this.lead = place - node.offsetTop;
        return;
      }
    }
  }

  get covers() {
    const place = this.view.scrollTop;
    return this.nodes.size > 0 && this.top < place + this.view.clientHeight && this.top + this.block.offsetHeight > place;
  }

  get nearEdge() {
    const above = this.view.scrollTop - this.top;
    const below = this.top + this.block.offsetHeight - this.view.scrollTop - this.view.clientHeight;
    const margin = this.view.clientHeight / 2;
    return (above < margin && this.first > 0) || (below < margin && this.end < this.rows);
  }

  get atEnd() {
    return this.view.scrollTop + this.view.clientHeight >= this.view.scrollHeight - 4 && this.end >= this.rows;
  }

  /** Listen to the reader's hands. */
  listen() {}

  // --- what happens -------------------------------------------------------------------------------------------------

  scrolled() {
    const place = this.view.scrollTop, up = place < this.lastPlace - 1;
    this.lastPlace = place;
    if (this.going) {
      this.missed = true;
      if (up && this.follows) {
        this.turn++; // somebody reads: the move to the end is off
        this.follow(false);
      }
      return;
    }
    this.settleSoon();
    if (this.covers) {
      this.look();
      if (this.nearEdge) this.draw();
      if ((place <= 0 && this.anchor > 0) || (place + this.view.clientHeight >= this.view.scrollHeight && this.end < this.rows)) this.settle();
    } else {
      this.anchor = this.rowAt(place);
      this.lead = 0;
      this.draw(false);
    }
    // Lines may have come since: only somebody who scrolls up wants no more of them.
    if (up || this.atEnd) this.follow(this.atEnd);
    this.drawSight();
  }

  /** @param {boolean} on */
  follow(on) {
    this.follows = on;
    this.root.classList.toggle("is-following", on);
  }

  /** @param {number} place */
  scrollTo(place) {
    this.view.scrollTop = place;
    this.lastPlace = this.view.scrollTop;
  }

  /** Put the scrollbar where the anchor is, without moving a line: they drift apart where rows differ in height. */
  settle() {
    if (!this.nodes.size) return;
    const view = this.view.clientHeight, offset = this.view.scrollTop - this.top; // of what is in sight, in the block
    const height = this.setHeight();
    const last = Math.max(1, this.rows - view / this.rowHeight);
    let place = ((this.anchor + this.lead / this.rowHeight) / last) * (height - view), top = place - offset;
    if (!this.first) [place, top] = [offset, 0];
    else if (this.end >= this.rows) {
      top = height - this.block.offsetHeight;
      place = top + offset;
    }
    place = Math.max(0, Math.min(place, height - view)) || 0;
    this.move(top);
    if (Math.abs(this.view.scrollTop - place) > 1) this.scrollTo(place);
  }

  /** Make the scrollbar as long as the log: exactly, where all of it is on the page. */
  setHeight() {
    const whole = !this.first && this.end >= this.rows;
    const height = whole ? this.block.offsetHeight : this.height;
    this.space.style.height = `${height}px`;
    return height;
  }

  /** @param {number} top */
  move(top) {
    this.top = top;
    this.block.style.top = `${top}px`;
  }

  // --- lines --------------------------------------------------------------------------------------------------------

  /** Draw the rows around the anchor; those that are not known are asked for. @param {boolean} [stays] whether the anchor is in sight, and does not move */
  async draw(stays = true) {
    if (this.going) return;
    const turn = ++this.turn, rows = await this.around(this.anchor, AROUND, this.inSight + AROUND);
    if (!rows || turn !== this.turn) return;
    this.place(rows, stays);
    if (this.nearEdge && this.covers) return;
    this.settleSoon();
  }

  /** Put the scrollbar right once nobody scrolls. */
  settleSoon() {
    clearTimeout(this.idle);
    this.idle = window.setTimeout(() => this.settle(), 160);
  }

  /** Whether a row has a line of its own on the page, or is folded. @param {number} row */
  shows(row) {
    const line = this.known.get(row), [first, last] = this.picked;
    return line?.head === undefined || this.open.has(line.head) || (line.seq >= first && line.seq <= last);
  }

  /** @param {number[]} rows @param {boolean} [stays] */
  place([first, end], stays = true) {
    const before = stays && this.nodes.get(this.anchor);
    const offset = before ? before.offsetTop + this.top - this.view.scrollTop : -this.lead;
    this.keepSelection(first, end);
    const kept = this.nodes;
    Object.assign(this, { nodes: new Map(), first, end });
    if (!this.shows(this.anchor)) this.anchor = this.known.get(this.anchor)?.head || 0; // of the traceback
    for (let row = first; row < end; row++) {
      const line = this.known.get(row);
      if (!line || !this.shows(row)) continue;
      const node = kept.get(row) || lineNode(line, this.known.get(row - 1), this);
      node.classList.toggle("is-head", this.known.get(row + 1)?.head === row);
      this.nodes.set(row, node);
      kept.delete(row);
    }
    for (const node of kept.values()) node.remove();
    let next = this.block.firstElementChild;
    for (const node of this.nodes.values()) {
      if (node === next) next = next.nextElementSibling;
      else this.block.insertBefore(node, next);
    }
    this.setHeight();
    const anchor = this.nodes.get(this.anchor);
    if (anchor) this.move(this.view.scrollTop + offset - anchor.offsetTop);
    this.mark();
    this.drawSight();
  }

  /** Build the lines again. */
  redraw() {
    this.look();
    for (const node of this.nodes.values()) node.remove();
    this.nodes.clear();
    return this.draw();
  }

  /** Lines came in: the number of rows now, and the last ones. @param {Shown} shown */
  arrived(shown) {
    const before = this.rows;
    this.take(shown);
    this.news.lines += this.rows - before;
    this.news.errors += shown.lines.filter((line) => line.row >= before && line.kind === "error").length;
    part(".log-count", HTMLElement, this.root).textContent = `${many(this.rows, "line")} shown`;
    if (this.follows) this.toEnd();
    else this.setHeight();
  }

  // --- going somewhere ----------------------------------------------------------------------------------------------

  /** Do something that leads elsewhere; until then nothing else is drawn. @template T @param {() => Promise<T>} move */
  async go(move) {
    this.going++;
    this.turn++;
    try {
      return await move();
    } finally {
      this.going--;
      if (!this.going && this.missed) {
        this.missed = false;
        this.scrolled();
      }
    }
  }

  /** Show a row, a part of the window's height below its top. @param {number} row @param {number} [below] */
  jump(row, below = 0.3) {
    return this.go(async () => {
      const turn = this.turn;
      row = Math.max(0, Math.min(row, this.rows - 1));
      const rows = await this.around(row, AROUND + this.inSight, AROUND + this.inSight);
      if (!rows || turn !== this.turn) return;
      this.anchor = row;
      this.place(rows);
      this.move(this.view.scrollTop + this.view.clientHeight * below - (this.nodes.get(this.anchor)?.offsetTop || 0));
      this.look();
      this.settle();
      this.look();
      this.drawSight();
    });
  }

  toEnd() {
    return this.go(async () => {
      const turn = this.turn;
      const last = this.rows, rows = last && (await this.around(last - 1, AROUND + this.inSight, 1));
      if (!rows || turn !== this.turn) return;
      this.anchor = last - 1;
      this.place(rows);
      this.move(Math.max(0, this.setHeight() - this.block.offsetHeight));
      this.scrollTo(this.view.scrollHeight);
      this.follow(true);
      this.look();
      this.drawSight();
    });
  }

  /** @param {string} what @param {number} [below] */
  goTo(what, below = 0.3) {
    return this.go(async () => {
      const shown = await this.ask(`${what}&count=${MOST_LINES}&before=${AROUND + this.inSight + 9}`);
      if (!shown || shown.row < 0) return null;
      this.take(shown);
      this.follow(false);
      const head = this.known.get(shown.row)?.head ?? -1;
      openFold(this.nodes.get(head), this);
      this.open.add(head);
      await this.jump(shown.row, below);
      this.nodes.get(shown.row)?.scrollIntoView({ block: "nearest" }); // the log may be far below what is in sight
      return this.known.get(shown.row) || null;
    });
  }

  /** Go to the line, or lines, that the address names. */
  async goToHash() {
    const found = /^L(\d+)(?:-L?(\d+))?$/.exec(named("L"));
    if (!found) return false;
    const ends = [Number(found[1]), Number(found[2] || found[1])];
    this.picked = [Math.min(...ends), Math.max(...ends)];
    return (await this.goTo(`seq=${this.picked[0]}`)) !== null;
  }

  /** @param {number} from @param {number} to */
  pick(from, to) {
    this.picked = [Math.min(from, to), Math.max(from, to)];
    const [first, last] = this.picked;
    name(`L${first}${last > first ? `-L${last}` : ""}`, named("try-"));
    this.mark();
  }

  async nextError(back = false) {
    const line = this.known.get(this.error) || this.known.get(this.anchor);
    const found = await this.goTo(back ? `error_before=${line?.seq || 1}` : `error_after=${line?.seq || 0}`);
    if (!found) return this.say(`no error ${back ? "before" : "after"} this one`);
    this.error = found.row;
    this.pick(found.seq, found.seq);
    openFold(this.nodes.get(found.row), this);
  }

  // --- marks --------------------------------------------------------------------------------------------------------

  /** Show which lines are picked, selected beyond the window, or the current match. */
  mark() {
    const [first, last] = this.picked, { from, to, lost } = this.selected;
    for (const [row, node] of this.nodes) {
      const seq = this.known.get(row)?.seq || 0;
      node.classList.toggle("is-picked", seq >= first && seq <= last);
      node.classList.toggle("is-selected", lost && seq >= Math.min(from, to) && seq <= Math.max(from, to));
      node.classList.toggle("is-match", seq > 0 && seq === this.search.current);
    }
    const copy = part("[data-do=copy-lines]", HTMLElement, this.root);
    copy.hidden = last <= 0;
    copy.textContent = `copy line${last > first ? `s ${number.format(first)}–` : " "}${number.format(last)}`;
  }

  /** Keep a selection whose lines are about to leave the window. @param {number} first @param {number} end */
  keepSelection(first, end) {
    const { from, to } = this.selected;
    const begin = this.known.get(first)?.seq || 0, last = this.known.get(end - 1)?.seq || 0;
    if (from && (Math.min(from, to) < begin || Math.max(from, to) > last)) this.selected.lost = true;
  }

  drawMap() {
    const kinds = ["", "", "", "warning", "error", "error", "error"];
    this.mapArea.replaceChildren(
      ...this.levels.flatMap((level, place) => (kinds[level] ? [rect(place / 2, 0.5, kinds[level])] : [])),
      ...[...this.search.marks].map((place) => rect(place / 2, 0.5, "hit")),
      rect(0, 1, "sight"),
    );
    this.drawSight();
  }

  drawSight() {
    const sight = this.mapArea.querySelector(".sight");
    const start = (this.anchor / Math.max(1, this.rows)) * 100, share = (this.inSight / Math.max(1, this.rows)) * 100;
    sight?.setAttribute("y", `${Math.min(start, 98)}%`);
    sight?.setAttribute("height", `${Math.max(share, 1.5)}%`);
  }

  /** @param {string} on */
  wrap(on) {
    this.wraps = on === "1";
    this.view.classList.toggle("is-wrapped", this.wraps);
    part("[data-do=wrap]", HTMLElement, this.root).setAttribute("aria-pressed", String(this.wraps));
  }
}

/** @param {number} y @param {number} height @param {string} kind */
function rect(y, height, kind) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [name, value] of Object.entries({ y: `${y}%`, height: `${height}%`, width: "100%", class: kind })) made.setAttribute(name, value);
  return made;
}
