"""The identity of a host on TCP: its certificate and key, how it gets them, and where it keeps them."""
