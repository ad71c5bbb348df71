"""What a service imports, sooner or later: the server of `tests.warm_process` has all of it before its first fork."""

from importlib import import_module

for name in (
    "engine.cli.service",
    "engine.runtime.app",
    "engine.web.routes",
    "uvicorn.lifespan.on",
    "uvicorn.protocols.http.h11_impl",
    "uvloop",
):
    import_module(name)
