"""What ships, really built and really run: the image, the manifests, the rules, the shippers' files."""
