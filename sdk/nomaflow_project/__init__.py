"""A project on disk: its files, their models, their problems, and its job definitions.

A leaf: kernel, host and command line read a project with this package, and it imports none of them. Nothing here
imports gRPC or SQLAlchemy.
"""
