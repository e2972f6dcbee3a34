// The page of jobs: a row more above would move all that is below it, so that nothing comes in while somebody points at
// a part of the page, walks through its rows, or has a menu open.

class HeldPart extends HeldWhole {
  get busy() {
    return Boolean(document.querySelector(".card:is(:hover, :focus-within), .card details.menu[open]"));
  }
}

/** The counts of the night stand beside what runs: one more of them may need another line. */
class HeldTally extends HeldPart {
  /** @param {DocumentFragment} fresh */
  hold(fresh) {
    const now = fresh.querySelector("#tally"), old = this.list;
    if (!now || !old || now.querySelectorAll("a").length === old.querySelectorAll("a").length) return;
    this.count = 1;
    this.latest = now.cloneNode(true);
    now.replaceWith(old.cloneNode(true));
  }
}

for (const id of ["needs", "running"]) new HeldPart(id, "row", `new-${id}`);
new HeldTally("tally", "state", "new-needs");
