# A shell where the agent would be.
{ lib, pkgs }:
[ "shell" ]
++ lib.optionals pkgs.stdenv.hostPlatform.isLinux [ "--package=${pkgs.rccPackages.tools}" ]
