"""The HTTP gateway: OpenAI's API over fusion's events. Nothing outside imports fastapi."""
