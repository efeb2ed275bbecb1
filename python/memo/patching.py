"""Patches attributes of modules, above all their forward, and removes the patches again. A copy of a module (copy, deepcopy,
pickle) has no patches: `__getstate__` of the patched instance leaves them out."""

import functools
import inspect


class Patching:
    """The patches of some modules, which `restore` removes together."""

    def __init__(self):
        self._before, self._active = {}, True  # module -> {name: (its own value or None, our values)}

    def put(self, module, name, *ours):
        """Sets the attribute to the first of `ours`; `restore` removes any of `ours` that it then has."""
        before = self._before.setdefault(module, {})
        before[name] = (module.__dict__.get(name), ours)
        module.__dict__[name] = ours[0]
        if "__getstate__" not in module.__dict__:
            self.put(module, "__getstate__", lambda: _without(dict(type(module).__getstate__(module)), before))

    def replace(self, module, make):
        """Patches the module's forward to make(forward)."""
        own, parameters = module.__dict__.get("forward"), inspect.signature(module.forward).parameters.values()

        def over(forward):
            ours = make(functools.partial(forward, module))

            def run(this, *args, **kwargs):
                return (ours if self._active and this is module else functools.partial(forward, this))(*args, **kwargs)

            this = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
            run.__signature__ = inspect.Signature([this, *parameters])
            return run

        run = over(_of_class if own is None else functools.partial(_of_instance, own))
        others = []
        if own is not None:  # Accelerate removes wrappers by __wrapped__, and would only find the class's forward
            run.__wrapped__ = over(_of_class)
            others = [run.__wrapped__.__get__(module)]
        self.put(module, "forward", run.__get__(module), *others)

    def below(self, module):
        """The module's forward below the patch."""
        if "forward" not in self._before.get(module, ()):
            return module.forward
        own, _ = self._before[module]["forward"]
        return own if own is not None else type(module).forward.__get__(module)

    def restore(self):
        """Removes the patches. An attribute that was replaced since stays; such a forward finds the module's own below."""
        self._active = False
        while self._before:
            module, before = self._before.popitem()
            if "forward" in before:
                before["forward"][1][0].__func__.__wrapped__ = type(module).forward
            _without(module.__dict__, before)


def _without(attributes, before):
    for name, (own, ours) in before.items():
        if name in attributes and attributes[name] in ours:
            if own is None or attributes[name] != ours[0]:
                del attributes[name]
            else:
                attributes[name] = own
    return attributes


def _of_class(module, *args, **kwargs):
    return type(module).forward(module, *args, **kwargs)


def _of_instance(own, module, *args, **kwargs):
    """own: a forward that is an attribute of the module, or of the module it was copied from."""
    if hasattr(own, "__func__"):
        return own.__func__(module, *args, **kwargs)
    return own(*args, **kwargs)
