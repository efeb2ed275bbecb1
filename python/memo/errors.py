"""What goes wrong with a model rather than with a value."""


class UnsupportedModel(ValueError):
    """The model, or one of its layers, which the message names, cannot be run by token blocks."""
