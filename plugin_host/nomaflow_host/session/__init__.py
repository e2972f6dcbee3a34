"""The host's end of its session with the kernel. The only part of a host that imports gRPC."""
