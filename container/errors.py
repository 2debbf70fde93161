"""The one kind of error whose message is shown to the user."""


class UserError(Exception):
    """Something the user can put right: its message says what was wrong, where, and what to do."""
