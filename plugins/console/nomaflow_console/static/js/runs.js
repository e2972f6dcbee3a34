// The page of runs: new rows wait while somebody works with the old ones; selection.

const rows = () => document.getElementById("runs-rows");

class HeldRuns extends HeldRows {
  waiting = /** @type {HTMLElement[]} */ ([]);

  get busy() {
    return super.busy || Boolean(this.list?.querySelector("input:checked, details[open]"));
  }

  /** Also keep those that somebody has selected, where they have left the page. @param {DocumentFragment} fresh */
  hold(fresh) {
    const body = fresh.querySelector("#runs-rows"), old = rows();
    if (!body || !old) return;
    this.waiting.length = 0;
    for (const row of [...body.children]) {
      if (row instanceof HTMLElement && !document.getElementById(row.id)) {
        this.waiting.push(/** @type {HTMLElement} */ (row.cloneNode(true)));
        row.remove();
      }
    }
    for (const row of old.children) if (!fresh.querySelector(`[id="${row.id}"]`)) body.append(row.cloneNode(true));
    this.count = this.waiting.length;
    fresh.querySelector("#new-rows")?.replaceWith(this.say());
  }

  letIn() {
    this.count = 0;
    for (const row of this.waiting.splice(0).reverse()) if (!document.getElementById(row.id)) rows()?.prepend(row);
    document.getElementById("new-rows")?.replaceWith(this.say());
  }
}
new HeldRuns("runs", "run");

// Selection.
const boxes = () => /** @type {HTMLInputElement[]} */ ([...document.querySelectorAll("#runs-rows input[name=run]")]);

function picked() {
  const all = document.getElementById("pick-all"), text = document.getElementById("picked");
  const count = boxes().filter((box) => box.checked).length, some = count > 0, every = count === boxes().length;
  if (all instanceof HTMLInputElement) Object.assign(all, { checked: some && every, indeterminate: some && !every });
  if (text) text.textContent = count ? `${count} selected:` : "selected:";
}
document.addEventListener("change", (event) => {
  if (!(event.target instanceof HTMLInputElement)) return;
  if (event.target.id === "pick-all") for (const box of boxes()) box.checked = event.target.checked;
  picked();
});
picked();

// The field of jobs offers the first ones; where there are more, what is typed finds any.
document.addEventListener("input", async (event) => {
  const field = event.target, offered = document.getElementById("jobs-known");
  if (!(field instanceof HTMLInputElement) || field.list !== offered || !offered?.dataset.more) return;
  const text = field.value, answer = await fetch(`/search.json?of=jobs&q=${encodeURIComponent(text)}`);
  /** @type {{ jobs: string[] }} */
  const found = answer.ok ? await answer.json() : null;
  if (found && field.value === text) offered.replaceChildren(...found.jobs.map((each) => new Option(each, each)));
});
