"""The demonstration: rendered scenes, photographs found in installed packages, planted copies."""
