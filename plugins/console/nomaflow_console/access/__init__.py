"""Who may use the console: login links, sessions, and the checks of each request."""
