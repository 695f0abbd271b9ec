# Of NixOS what rcc's module sets, with NixOS's types.
{ lib, ... }:
let
  inherit (lib) types;
  option = type: default: lib.mkOption { inherit type default; };
  set = options: option (types.attrsOf (types.submodule { inherit options; })) { };
  strings = option (types.listOf types.str) [ ];
  text = option (types.nullOr types.str) null;
  attrs = option types.attrs { };
in
{
  imports = [ ./common.nix ];
  options = {
    environment.etc = set {
      source = lib.mkOption { type = types.path; };
      mode = option types.str "symlink";
    };
    environment.systemPackages = option (types.listOf types.package) [ ];
    users.users = set {
      isSystemUser = option types.bool false;
      group = option types.str "";
      description = option types.str "";
      linger = option types.bool false;
    };
    users.groups = set { };
    systemd = {
      packages = option (types.listOf types.package) [ ];
      tmpfiles.rules = strings;
      targets = set { wants = strings; };
      services = set { reloadIfChanged = option types.bool false; };
      user.services = set {
        description = text;
        unitConfig = attrs;
        serviceConfig = attrs;
      };
      user.timers = set {
        wantedBy = strings;
        unitConfig = attrs;
        timerConfig = attrs;
      };
    };
    virtualisation.podman.enable = option types.bool false;
  };
}
