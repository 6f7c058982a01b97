"""Methods: a score with a selector, under the names and settings that their papers give them."""
