"""What a running daemon answered, as people read it in a terminal: no questions and no decisions."""
