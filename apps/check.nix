# Is this machine ready? Changes nothing.
[ "check" ]
