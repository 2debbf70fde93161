"""How well the machine is used: system metrics, where steps' time goes, operators, and rules."""
