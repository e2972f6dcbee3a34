"""Steps that will not stop, and steps that say what they do."""
