"""The client's side of a topology: the public class and the handles that users hold."""
