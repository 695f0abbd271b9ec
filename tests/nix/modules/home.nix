# Of home-manager what rcc's module sets.
{ lib, ... }:
{
  imports = [ ./common.nix ];
  options.home.packages = lib.mkOption {
    type = lib.types.listOf lib.types.package;
    default = [ ];
  };
}
