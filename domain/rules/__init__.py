"""The decisions: for each input, which events follow and which effects they ask for. One module per subject, named after it."""
