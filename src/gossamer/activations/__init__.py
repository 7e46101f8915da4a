"""What a model has at some sites on some text, and which of its tokens count."""
