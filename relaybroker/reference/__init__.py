"""The pages in docs/ that are made from the code, and the list of promises. It may import every room; none imports it."""
