"""The kernel's side of its hosts: the open sessions, and what hosts say in them."""
