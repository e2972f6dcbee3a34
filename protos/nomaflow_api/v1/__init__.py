"""Version 1: the .proto files, the stubs made from them, and the codecs of values and log lines."""
