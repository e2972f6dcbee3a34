// The last filters of a page are kept in this browser. They are offered again, and never forced.

const offered = document.getElementById("last-filters");
// The address with the filters that the page has understood; without any, only its path.
const filtered = new URL(offered?.dataset.filters || "", location.href);
const kept = `nomaflow.last ${filtered.pathname}`, last = localStorage.getItem(kept);

if (filtered.search) localStorage.setItem(kept, filtered.search);
else if (last && offered) {
  const timeZone = /\bzone="?UTC/.test(document.cookie) ? "UTC" : undefined;
  const said = [...new URLSearchParams(last)].map(([name, value]) => {
    if (name === "state") return value.toLowerCase();
    if (!/^\d{4}-\d\d-\d\dT/.test(value) || Number.isNaN(Date.parse(value))) return value;
    const at = new Date(value).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short", timeZone });
    return `${name} ${at.replace(",", "")}`;
  });
  const textContent = `again: ${said.join(", ").slice(0, 60)}`;
  offered.replaceChildren(made("a", { className: "chip", href: filtered.pathname + last, textContent }));
  offered.hidden = false;
}
