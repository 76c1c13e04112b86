"""How models run. ``create_engine`` imports only the kind that is asked for."""
