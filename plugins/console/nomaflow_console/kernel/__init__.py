"""What the console asks of the kernel, and what it hears from it."""
