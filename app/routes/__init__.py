"""What the generated routes call: from HTTP to the reader and back."""

from starlette.convertors import PathConvertor, register_url_convertor


class _AnyPath(PathConvertor):
    """A rest of a path. Starlette's own takes no line break, which a URL or a name may hold as %0A: that was 404 for all."""

    regex = "(?s:.*)"


# Before any route is described: they are compiled by then, and the routes import this package first.
register_url_convertor("path", _AnyPath())
