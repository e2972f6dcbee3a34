// The last filters of a page are kept in this browser. They are offered again, and never forced.

const offered = document.getElementById("last-filters");
// The address with the filters that the page has understood; without any, only its path.
const filtered = new URL(offered?.dataset.filters || "", location.href);
const kept = `nomaflow.last ${filtered.pathname}`, last = localStorage.getItem(kept);

if (filtered.search) localStorage.setItem(kept, filtered.search);
else if (last && offered) {
  const textContent = `again: ${[...new URLSearchParams(last).values()].join(", ").toLowerCase().slice(0, 60)}`;
  offered.replaceChildren(made("a", { className: "chip", href: filtered.pathname + last, textContent }));
  offered.hidden = false;
}
