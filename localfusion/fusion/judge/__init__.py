"""The judge: what it reads, in what order and how much of it; what it says, and what that means."""
