"""The hooks of a plugin host, and Nomaflow's own plugins on them."""
