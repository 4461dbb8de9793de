"""Everything between a finished run and the Hub; so far what knows of earlier releases."""
