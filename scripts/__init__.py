"""What setting up a checkout needs; tests import from here, the installed package does not."""
