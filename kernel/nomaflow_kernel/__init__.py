"""The kernel: scheduling, run history and cancellation. It never imports plugin code.

``domain`` is pure; ``ports`` says what the kernel needs from outside; ``store`` keeps history; ``catalogue`` knows the
jobs; ``scheduler`` fires them; ``runs`` is the engine that decides; ``hosts`` and ``rpc`` speak gRPC; ``app`` wires it.
"""
