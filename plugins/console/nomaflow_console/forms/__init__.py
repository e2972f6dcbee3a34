"""Forms: the fields of a call's values, their texts, and what a filled-in form asks for."""
