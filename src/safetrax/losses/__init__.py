"""The mathematics: pure functions of arrays, one equation each, no networks inside."""
