"""How bytes leave: uvicorn with sendfile, and the doors' life from bind to drain."""
