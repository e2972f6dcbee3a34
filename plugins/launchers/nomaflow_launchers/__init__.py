"""Starts instances of plugin hosts on an engine, such as Slurm, when steps wait for them.

``planning`` decides, from what the kernel wants and the engine has; ``engines`` knows the engines; ``app`` asks and
acts, again and again. The launcher keeps nothing: what it has started is what the engine lists, so it may be killed at
any moment.
"""
