"""Contents of the pages, computed from the client's values by pure functions, without I/O."""
