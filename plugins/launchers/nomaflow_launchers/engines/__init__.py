"""The engines on which instances are started: what a launcher asks of one, and each that there is."""
