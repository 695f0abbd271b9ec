# Of home-manager what rcc's module sets.
{ lib, ... }:
{
  imports = [ ./common.nix ];
  options = {
    home.packages = lib.mkOption {
      type = lib.types.listOf lib.types.package;
      default = [ ];
    };
    xdg.configFile = lib.mkOption {
      type = lib.types.attrsOf (
        lib.types.submodule { options.source = lib.mkOption { type = lib.types.path; }; }
      );
      default = { };
    };
  };
}
