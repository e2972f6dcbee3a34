"""The pure part of the kernel: values, states, transitions and rules. No I/O, no clock but an injected one."""
