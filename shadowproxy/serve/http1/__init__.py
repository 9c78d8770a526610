"""The grammar of HTTP/1.1, both directions; imports nothing of the other rooms."""
