"""Kubernetes as an engine: an instance is a Job of one pod, which the cluster never starts twice by our wish.

``api`` speaks to the API server; ``reading`` has the parts of its objects that are read, and ``writing`` makes a Job;
``cluster`` is the engine; ``witness`` judges from a pod whether nothing of it can run any more.
"""
