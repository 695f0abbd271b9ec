# The same: what changes the machine is the line that it ends with, by sudo.
import ./check.nix
