// The page of jobs: what needs a person, and what runs, does not move under the pointer or an open menu.

class HeldPart extends HeldWhole {
  get busy() {
    return Boolean(this.list?.matches(":hover") || this.list?.querySelector("details[open]"));
  }
}

for (const id of ["needs", "running"]) new HeldPart(id, "row", `new-${id}`);
