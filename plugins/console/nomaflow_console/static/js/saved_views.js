// Views of the page of runs that somebody has given names; they are kept in this browser.
const VIEWS = "nomaflow.views";
/** @returns {Record<string, string>} */
const views = () => JSON.parse(localStorage.getItem(VIEWS) || "{}");

function showViews() {
  const place = document.getElementById("saved-views");
  if (!place) return;
  const all = views();
  const menu = made("details", { className: "menu" }), list = made("div", {});
  for (const [name, address] of Object.entries(all)) {
    const line = made("div", { className: "view-line" });
    const ariaLabel = `Forget the view ${name}`;
    const drop = made("button", { type: "button", className: "button plain square", textContent: "✕", ariaLabel });
    drop.addEventListener("click", () => {
      const left = views();
      delete left[name];
      localStorage.setItem(VIEWS, JSON.stringify(left));
      showViews();
    });
    const href = `/runs?${new URLSearchParams(address)}`;
    line.append(made("a", { className: "item", href, textContent: name }), drop);
    list.append(line);
  }
  const form = made("form", { className: "ask-form" });
  const name = { placeholder: "Name of this view", ariaLabel: "Name of this view" };
  const input = made("input", { className: "small", required: true, maxLength: 60, ...name });
  form.append(input, made("button", { className: "button", textContent: "Save view" }));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    localStorage.setItem(VIEWS, JSON.stringify({ ...views(), [input.value.trim()]: filtered.search }));
    showViews();
  });
  list.append(form);
  menu.append(made("summary", { textContent: "Views" }), list);
  place.replaceChildren(menu);
  place.hidden = false;
}
showViews();
