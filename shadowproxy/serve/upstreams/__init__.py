"""One endpoint and its connections: what is sent to live and to shadows, and what they answer."""
