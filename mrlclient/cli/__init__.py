"""The command line: parses and prints, and leaves the work to the packages below."""
