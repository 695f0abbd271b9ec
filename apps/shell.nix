# A shell where the agent would be.
_: [ "shell" ]
