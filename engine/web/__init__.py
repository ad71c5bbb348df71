"""The HTTP interface. `engine.web.routes.create(service)` makes the application."""
