"""The kernel's gRPC side: services for clients and hosts, checks, errors, the server itself."""
