// The page of what happened: an event never changes, so that a fresh list waits as a whole.
new HeldWhole("activity-list", "event");
