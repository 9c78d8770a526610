"""Shadow mode in an application's own process: `Shadow`, and what captures requests and answers for its companion."""
