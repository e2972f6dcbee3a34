// The last filters of a page are kept in this browser. They are offered again, and never forced.

const offered = document.getElementById("last-filters");
// The address with the filters that the page has understood; without any, only its path.
const filtered = new URL(offered?.dataset.filters || "", location.href);

function offerLast() {
  if (!offered) return;
  const key = `nomaflow.last-filters ${filtered.pathname}`, last = localStorage.getItem(key);
  if (filtered.search) localStorage.setItem(key, filtered.search);
  else if (last) {
    const values = [...new URLSearchParams(last)].map(([name, value]) => (value === "1" ? name : value));
    const link = document.createElement("a");
    link.className = "chip";
    link.href = filtered.pathname + last;
    link.textContent = `again: ${values.join(", ").toLowerCase().slice(0, 60)}`;
    offered.replaceChildren(link);
    offered.hidden = false;
  }
}
offerLast();
