"""What callers send and get: addresses, connections, requests, responses."""
