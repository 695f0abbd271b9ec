# Claude Code, isolated, in this directory: the program comes with the flake, by the hash that rcc pins, and so do usual
# tools, for a project that has no approved devShell.
{ lib, pkgs }:
[ "claude" ]
++ lib.optionals pkgs.stdenv.hostPlatform.isLinux [
  "--agents=${pkgs.rccPackages.claude-code}/agents"
  "--package=${pkgs.rccPackages.tools}"
]
