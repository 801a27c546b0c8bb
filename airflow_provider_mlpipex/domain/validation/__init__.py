"""Reading a manifest file, and refusing what could never work, with lines to correct."""
