"""What commands of several groups share."""
