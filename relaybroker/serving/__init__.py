"""What every HTTP server here needs and no web framework brings: bounds on connections. The broker's API and the embedded engine use it.

It imports nothing of this project.
"""
