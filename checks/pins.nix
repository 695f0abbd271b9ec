# Both systems have a pinned agent, of one version, by its hash.
{ lib, pkgs, ... }:
let
  pins = import ../nix/pins.nix { inherit lib; };
  both = [
    pins.x86_64-linux
    pins.aarch64-linux
  ];
  whole = pin: lib.hasPrefix "sha512-" pin.integrity && lib.stringLength pin.integrity == 95;
in
assert lib.all whole both;
assert (lib.head both).version == (lib.last both).version;
pkgs.runCommand "rcc-pins" { versions = map (pin: pin.version) both; } "echo $versions > $out"
