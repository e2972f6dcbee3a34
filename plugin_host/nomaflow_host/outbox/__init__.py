"""Events of attempts on their way to the kernel: kept until it has acknowledged them."""
