"""Finds out before every step whether layers have changed: a plan belongs to the layers as they were when it was made."""

import types

_PLAIN = (int, float, bool, str, type(None))
_STATE = ("_parameters", "_buffers", "_modules", "_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks",
          "_load_state_dict_post_hooks")
_OF_LAYERS = (*_STATE, "forward", "__getstate__")  # attributes that attaching patches


def _plain(value):
    """A comparable form of an attribute's value, or None for values by which layers hardly compute."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, dict):  # hooks, and settings by adapter
        return tuple((key, item if type(item) in _PLAIN else id(item)) for key, item in value.items()) if value else 0
    if isinstance(value, (list, tuple, set, frozenset)):
        return tuple(item if type(item) in _PLAIN else id(item) for item in value)
    if isinstance(value, (types.FunctionType, types.MethodType, type)):
        return id(value)
    return None


def _add(module, seen, without=_STATE):
    own = module.__dict__
    seen.append(id(module))
    for name, value in own.items():
        if name not in without:
            plain = _plain(value)
            if plain:
                seen += (name, plain)
    for p in own["_parameters"].values():
        if p is not None:
            seen += (id(p), p.requires_grad, p.dtype, p.device, p.shape, bool(p._backward_hooks))
    for b in own["_buffers"].values():
        if b is not None:
            seen += (b.dtype, b.device)
    for child in own["_modules"].values():
        if child is not None:
            _add(child, seen)


def look(layers, configs) -> tuple:
    """Modules, parameters (identity, dtype, requires_grad, hooks), and plain settings (dropout, adapters, windows, training) of
    all layers and of their configs. While the tuples are equal, the layers compute as before."""
    seen = []
    for layer in layers:
        _add(layer, seen, _OF_LAYERS)
    for config in configs:
        for name, value in config.__dict__.items():
            seen += (name, _plain(value))
    return tuple(seen)


def structure(layer) -> tuple:
    """Classes of a layer's modules, and shapes of its parameters, without their names."""
    return tuple((type(module).__qualname__, tuple((p.shape, p.dtype, p.requires_grad)
                                                   for p in module._parameters.values() if p is not None))
                 for module in layer.modules())
