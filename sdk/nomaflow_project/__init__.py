"""A project on disk: its files, their models, the problems in them, and what its jobs say.

A leaf: kernel, host and command line read a project with this package, and it imports neither of them. Nothing here
imports gRPC or SQLAlchemy.
"""
