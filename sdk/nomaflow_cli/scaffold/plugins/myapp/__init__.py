"""The callables of this team."""
