// Keeps what the reader did to a part that is replaced: what was opened stays open, and the row that was walked to keeps
// the focus. htmx asks its extensions about each attribute; an event of the page there is none.
htmx.registerExtension("keep", {
  htmx_before_morph_attr: (/** @type {Element} */ target, /** @type {{attrName: string}} */ { attrName }) =>
    !(attrName === "tabindex" || (attrName === "open" && target.matches("details"))),
});
