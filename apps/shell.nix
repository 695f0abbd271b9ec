# A shell where the agent would be.
[ "shell" ]
