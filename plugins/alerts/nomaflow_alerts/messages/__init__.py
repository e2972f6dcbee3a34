"""The texts of messages."""
