"""Forms: their fields, the values that were sent, and those that the kernel gets."""
