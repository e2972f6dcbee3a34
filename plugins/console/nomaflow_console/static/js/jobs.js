// The page of jobs: what needs a person, and what runs, does not move under the pointer or an open menu.

class HeldPart extends HeldRows {
  get busy() {
    return Boolean(this.list?.matches(":hover, :has(details[open])"));
  }

  /** @param {ParentNode} part */
  rows(part) {
    return [...part.querySelectorAll("li[id]")].map((row) => row.id).join(" ");
  }

  /** The fresh part waits as a whole if it has other rows. @param {DocumentFragment} fresh */
  hold(fresh) {
    const part = fresh.querySelector(`#${this.id}`), old = this.list;
    this.count = 0;
    if (!part || !old || this.rows(part) === this.rows(old)) return;
    this.latest = part.cloneNode(true);
    this.count = 1;
    part.replaceWith(old.cloneNode(true));
  }

  letIn() {
    this.count = 0;
    if (this.latest) this.list?.replaceWith(this.latest);
    this.latest = undefined;
  }
}

for (const id of ["needs", "running"]) new HeldPart(id, "row");
