// Rows that come while somebody works with a list: they wait behind a button, and nothing moves under a pointer.

/** @template {keyof HTMLElementTagNameMap} T @param {T} tag @param {Partial<HTMLElementTagNameMap[T]>} more */
const made = (tag, more) => Object.assign(document.createElement(tag), more);

class HeldRows {
  /** @param {string} id of the list @param {string} word for one of its rows @param {string} place that says what waits */
  constructor(id, word, place = "new-rows") {
    this.id = id;
    this.place = place;
    this.word = word;
    this.count = 0; // of the rows that wait; below 0, of those that would go
    document.addEventListener("htmx:before:swap", (event) => {
      const tasks = /** @type {CustomEvent} */ (event).detail?.tasks ?? [];
      for (const task of tasks) {
        const target = task.target?.id ?? task.target;
        if (target !== id && target !== `#${id}`) continue;
        if (this.busy) this.hold(task.fragment);
        else this.count = 0; // what is shown now has everything
      }
    });
    document.addEventListener("click", (event) => {
      if (!(event.target instanceof Element && event.target.closest(`#${place}`))) return;
      scrollTo(0, 0);
      this.letIn();
    });
    for (const kind of ["pointerout", "focusout", "scroll"]) {
      document.addEventListener(kind, () => setTimeout(() => this.count && !this.busy && this.letIn(), 400), { passive: true });
    }
  }

  get list() {
    return document.getElementById(this.id);
  }

  /** Whether rows must not move now. */
  get busy() {
    return scrollY > 200 || Boolean(this.list?.matches(":hover, :focus-within"));
  }

  /** What waits, in words. */
  say() {
    const place = made("div", { id: this.place, role: "status", hidden: !this.count });
    const number = Math.abs(this.count), words = `${this.word}${number === 1 ? "" : "s"}`;
    const textContent = this.count > 0 ? `↑ ${number} new ${words}` : `↑ ${number} ${words} fewer`;
    if (this.count) place.append(made("button", { type: "button", className: "button new-rows", textContent }));
    return place;
  }

  /** Keep the new rows of a fresh list back. @param {DocumentFragment} fresh */
  hold(fresh) {}

  /** Show the rows that wait. */
  letIn() {}
}

/** A fresh list that waits as a whole; the rows that are there tell what is new of them. */
class HeldWhole extends HeldRows {
  /** @param {DocumentFragment} fresh */
  hold(fresh) {
    const list = fresh.querySelector(`#${this.id}`), old = this.list;
    const rows = (/** @type {Element} */ of) => new Map([...of.querySelectorAll("[data-row][id]")].map((row) => [row.id, row]));
    if (!list || !old) return;
    const known = rows(old), now = rows(list);
    this.count = [...now].filter(([id]) => !known.has(id)).length || Math.min(now.size - known.size, 0);
    if (!this.count) return;
    this.latest = list.cloneNode(true);
    const kept = /** @type {Element} */ (old.cloneNode(true));
    for (const [id, row] of rows(kept)) row.replaceWith(now.get(id) ?? row);
    kept.querySelector(`#${this.place}`)?.replaceWith(this.say());
    list.replaceWith(kept);
  }

  letIn() {
    if (this.count && this.latest) this.list?.replaceWith(this.latest);
    this.latest = undefined;
    this.count = 0;
  }
}
