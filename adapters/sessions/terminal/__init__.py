"""Sessions in terminals: what a program's screen shows, who has its keyboard, and text typed into it exactly once."""
