"""The tests of the Python package. As a package, their modules may have the names of modules in other test folders."""
