// @ts-check
// Keeps what the reader did to a part that is replaced: open menus stay open, buttons that a script shows stay shown.
document.addEventListener("htmx:before:morph:attr", (event) => {
  const { attrName } = /** @type {CustomEvent} */ (event).detail;
  const target = event.target;
  if (!(target instanceof Element)) return;
  if (attrName === "open" && target.matches("details")) event.preventDefault();
  if (attrName === "hidden" && target.matches("[data-copy], #pick-all")) event.preventDefault();
});
