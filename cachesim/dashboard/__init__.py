"""The topology as a person sees it: a picture of its state, and a web page that shows it."""
