# Claude Code, isolated, in this directory.
[ "claude" ]
