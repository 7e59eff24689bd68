"""What backends share: the frame of a start, a gate before a program, the fork server's client, monitors, consoles."""
