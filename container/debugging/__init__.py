"""The only room that imports smdebug."""
