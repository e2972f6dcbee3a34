"""The kernel: scheduling, run history and cancellation. It never imports plugin code.

``domain`` and the values of ``history`` are pure; ``store`` keeps history; ``catalogue`` knows the jobs; ``scheduler``
fires them; ``engine`` decides what happens to runs; ``hosts`` and ``rpc`` speak gRPC; ``leadership`` assembles and runs
them.
"""
