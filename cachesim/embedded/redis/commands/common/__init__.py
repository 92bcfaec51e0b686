"""Code that commands of several groups share."""
