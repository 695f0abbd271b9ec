# Claude Code, isolated, in this directory: the program comes with the flake, by the hash that rcc pins.
{ lib, pkgs }:
[ "claude" ]
++ lib.optionals pkgs.stdenv.hostPlatform.isLinux [
  "--agents=${pkgs.rccPackages.claude-code}/agents"
]
