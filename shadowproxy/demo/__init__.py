"""Two real systems on real flights, run by `shadowproxy demo`."""
