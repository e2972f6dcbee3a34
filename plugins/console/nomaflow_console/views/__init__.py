"""What a page shows, computed from the client's values: pure functions, without I/O."""
