"""Object stores, for all who read a log or send one there: S3, Google Cloud, Azure, and files of web servers."""
