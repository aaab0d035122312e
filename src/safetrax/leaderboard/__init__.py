"""The tables that papers published, corrected, and own results beside them."""
