"""Real houses in processes of their own, which die, stand still, or lose their database."""
