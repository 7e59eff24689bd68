"""What replaces slow parts of the standard library before every start; each piece says what it saves."""
