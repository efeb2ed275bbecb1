"""The stub python/memo/_core.pyi declares what the built module has, and nothing else."""

import ast
import inspect
import re
from pathlib import Path

from memo import _core, layers

REPOSITORY = Path(__file__).parents[2]
OF_PYTHON = {"__name__", "__doc__", "__package__", "__loader__", "__spec__", "__file__", "__module__", "__weakref__"}
OF_PYBIND = {"_pybind11_conduit_v1_"}
NOT_MADE_BY_PYTHON = type(object.__init__)  # what pybind gives a class that has no constructor


def declared(body):
    """name -> "class", "value", "property", or the names of a function's parameters."""
    found = {}
    for node in body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = "class"
        elif isinstance(node, ast.AnnAssign):
            found[node.target.id] = "value"
        elif isinstance(node, ast.FunctionDef):
            given = node.args
            names = [a.arg for a in given.args] + ["*"] * bool(given.kwonlyargs) + [a.arg for a in given.kwonlyargs]
            decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
            found[node.name] = "property" if "property" in decorators else decorators + names
    return found


def parameters(function):
    """Names, from the signature that pybind puts first into a function's documentation."""
    text = re.match(r"\w+\((.*)\) -> ", function.__doc__)[1]
    nested = re.compile(r"\[[^][]*\]|\([^()]*\)")
    while nested.search(text):
        text = nested.sub("", text)
    return [part.split(":")[0].split("=")[0].strip() for part in text.split(",") if part.strip()]


def built(of):
    found = {}
    for name in vars(of):
        member = getattr(of, name)  # a function, where the class has a descriptor
        if name in OF_PYTHON | OF_PYBIND or isinstance(member, NOT_MADE_BY_PYTHON):
            continue
        if inspect.isclass(member):
            found[name] = "class"
        elif isinstance(member, property):
            found[name] = "property"
        elif callable(member):
            found[name] = ["staticmethod"] * isinstance(vars(of)[name], staticmethod) + parameters(member)
        else:
            found[name] = "value"
    return found


def stub():
    body = ast.parse((REPOSITORY / "python/memo/_core.pyi").read_text()).body
    return body, {node.name: node.body for node in body if isinstance(node, ast.ClassDef)}


def test_the_module_is_declared():
    declarations = declared(stub()[0])
    assert declarations.pop("_Calls") == "class"  # a protocol, of what Python gives
    assert declarations == built(_core)


def test_its_classes_are_declared():
    classes = stub()[1]
    for name, kind in inspect.getmembers(_core, inspect.isclass):
        assert declared(classes[name]) == built(kind), name


def test_what_the_module_calls_of_pythons_layers_is_declared_and_there():
    """And nothing else is declared."""
    called = set()
    for source in (REPOSITORY / "memo/python").glob("*.*"):
        called |= set(re.findall(r'object_\.attr\("(\w+)"\)', source.read_text()))
    declarations = declared(stub()[1]["_Calls"])
    assert declarations.keys() == called
    for name, given in declarations.items():
        if given == "value":
            assert f"self.{name} = " in inspect.getsource(layers.Calls.__init__)
        else:
            assert list(inspect.signature(getattr(layers.Calls, name)).parameters) == given, name
