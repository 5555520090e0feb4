"""Measuring of lstore and lrun beside floors and peers; `table` is the command."""
