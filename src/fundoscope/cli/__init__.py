"""The command line: one file a command group; what they call is imported inside, so that `--help` answers at once."""
