"""One data set a file: how it is found, and the settings that `data=<name>` stands for. A new set is a new file here."""

from importlib import import_module
from pkgutil import iter_modules

for _file in iter_modules(__path__):
    import_module(f"{__name__}.{_file.name}")
