"""Getting the lead, assembling the kernel that has it, and the requests to its process."""
