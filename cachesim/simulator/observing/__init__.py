"""What an observation is made of: operations on a schedule, and the figures that they give."""
