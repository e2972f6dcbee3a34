"""Access to the console: login links, sessions, and the checks of each request."""
