"""What an operator can ask of the command line, one file for each group of commands."""
