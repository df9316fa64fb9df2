"""What brings accuracy back after atoms were removed."""
