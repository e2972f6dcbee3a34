"""Steps whose runs a page has to show well."""
