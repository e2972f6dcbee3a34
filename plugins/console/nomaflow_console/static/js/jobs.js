// The page of jobs: what needs a person, and what runs, does not move under the pointer or an open menu.

class HeldPart extends HeldWhole {
  get busy() {
    return Boolean(this.list?.matches(":hover, :has(details[open])"));
  }

  /** Also rows that would go. @param {Element} list @param {Element} old */
  fresh(list, old) {
    return super.fresh(list, old) + Math.abs(list.querySelectorAll("li[id]").length - old.querySelectorAll("li[id]").length);
  }
}

for (const id of ["needs", "running"]) new HeldPart(id, "row");
