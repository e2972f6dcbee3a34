"""The console: the web page that an operator keeps open, a client of the kernel like any other."""
