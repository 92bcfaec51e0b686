"""Code that several groups of commands share."""
