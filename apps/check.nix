# Is this machine ready? Changes nothing.
_: [ "check" ]
