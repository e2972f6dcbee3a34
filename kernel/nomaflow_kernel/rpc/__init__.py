"""The kernel's gRPC side: services for clients, checks, errors, the server itself."""
