"""The exception for models that cannot be attached."""


class UnsupportedModel(ValueError):
    """The model cannot run by token blocks; the message names the model or the layer that prevents it."""
