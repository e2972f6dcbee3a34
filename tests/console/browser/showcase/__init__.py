"""A believable team's project with three weeks of history, for looking at the console and for its pictures."""
