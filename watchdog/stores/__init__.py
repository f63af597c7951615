"""Where the facts are kept: sessions, agents, the clock, claims, intents, history."""
