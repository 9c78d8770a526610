"""The live path, one story."""
