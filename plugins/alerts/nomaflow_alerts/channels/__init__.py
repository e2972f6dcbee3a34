"""The ways to tell somebody."""
