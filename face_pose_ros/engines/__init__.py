"""How the networks run: torch on any device."""
