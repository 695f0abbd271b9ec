# What `nix run` starts: one file an app, found by reading this folder. Each is `rcc` with the file's words in front.
{ lib, pkgs }:
let
  inherit (pkgs.rccPackages) rcc;
  names = map (lib.removeSuffix ".nix") (
    lib.filter (name: name != "default.nix") (lib.attrNames (builtins.readDir ./.))
  );
  app =
    name:
    let
      words = import (./. + "/${name}.nix") { inherit lib pkgs; };
      program = pkgs.writeShellScriptBin "rcc-${name}" ''
        exec ${rcc}/bin/rcc ${lib.escapeShellArgs words} "$@"
      '';
    in
    {
      type = "app";
      program = "${program}/bin/rcc-${name}";
    };
  apps = lib.genAttrs names app;
in
apps // { default = apps.claude; }
