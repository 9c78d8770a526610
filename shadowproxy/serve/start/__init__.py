"""How `shadowproxy serve` starts: three processes at once, so that the first caller waits for the slowest alone.

A fork reads the command line and the configuration, and ends with all that this needs in memory: click, YAML, pydantic.
A live process imports its modules. The command's own process becomes the supervisor of it.
"""
