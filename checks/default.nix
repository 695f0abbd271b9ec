# One file a check, found by reading this folder. Where rcc does not run, only what is evaluated is checked.
{
  lib,
  pkgs,
  self,
}:
let
  names = map (lib.removeSuffix ".nix") (
    lib.filter (name: name != "default.nix") (lib.attrNames (builtins.readDir ./.))
  );
  check = name: import (./. + "/${name}.nix") { inherit lib pkgs self; };
in
lib.optionalAttrs pkgs.stdenv.hostPlatform.isLinux (lib.genAttrs names check)
