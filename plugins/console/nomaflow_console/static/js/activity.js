// The page of what happened: an event never changes, so that a fresh list waits as a whole.

class HeldEvents extends HeldRows {
  /** @param {DocumentFragment} fresh */
  hold(fresh) {
    const list = fresh.querySelector(`#${this.id}`), old = this.list;
    if (!list || !old) return;
    this.count = [...list.querySelectorAll("li[id]")].filter((row) => !document.getElementById(row.id)).length;
    if (!this.count) return;
    this.latest = list.cloneNode(true);
    const kept = /** @type {Element} */ (old.cloneNode(true));
    kept.querySelector("#new-rows")?.replaceWith(this.say());
    list.replaceWith(kept);
  }

  letIn() {
    this.count = 0;
    if (this.latest) this.list?.replaceWith(this.latest);
    this.latest = undefined;
  }
}

new HeldEvents("activity-list", "event");
