# What NixOS, nix-darwin and home-manager have alike.
{ lib, ... }:
{
  options = {
    assertions = lib.mkOption {
      type = lib.types.listOf (lib.types.attrsOf lib.types.raw);
      default = [ ];
    };
    warnings = lib.mkOption {
      type = lib.types.listOf lib.types.str;
      default = [ ];
    };
  };
}
