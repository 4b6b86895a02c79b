"""One command a module, under the module's name, as its attribute `command`."""
