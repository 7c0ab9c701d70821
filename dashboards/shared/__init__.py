"""What the operator's console and the trader's desk look like alike: tokens, the shell of a page, words and amounts."""
