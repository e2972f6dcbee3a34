"""One module for each group of commands; importing it adds the commands to the application."""
