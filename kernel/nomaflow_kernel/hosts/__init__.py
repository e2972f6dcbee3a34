"""The kernel's side of its hosts: sessions, reports, manifests."""
