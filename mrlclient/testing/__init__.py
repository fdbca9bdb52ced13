"""Everything to test against: the loopback emulator, the conformance suites, the scripted driver."""
