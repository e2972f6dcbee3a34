"""What pages say, as pure functions: no I/O."""
