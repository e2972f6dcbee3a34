// The schedule: where the axis of a day is wider than the page, it opens at now, with more of what comes than of what was.

for (const axis of document.querySelectorAll(".strip-wrap")) {
  const now = axis.querySelector(".now");
  if (now) axis.scrollLeft = (parseFloat(now.getAttribute("x1") || "0") / 100) * axis.scrollWidth - axis.clientWidth / 3;
}

// A fire that comes or goes waits while somebody works with the list.
new HeldWhole("schedule-days", "fire");
