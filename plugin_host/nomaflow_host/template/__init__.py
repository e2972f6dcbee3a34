"""A template: a fresh interpreter that has loaded one generation of plugin code, and forks workers from it."""
