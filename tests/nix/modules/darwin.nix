# Of nix-darwin what rcc's module sets, with nix-darwin's types.
{ lib, ... }:
let
  inherit (lib) types;
  option = type: default: lib.mkOption { inherit type default; };
  needed = type: lib.mkOption { inherit type; };
  set = options: option (types.attrsOf (types.submodule { inherit options; })) { };
  strings = option (types.listOf types.str) [ ];
  text = option (types.nullOr types.nonEmptyStr) null;
  path = option (types.nullOr types.path) null;
in
{
  imports = [ ./common.nix ];
  options = {
    environment.etc = set { source = needed types.path; };
    environment.launchDaemons = set { source = needed types.path; };
    environment.systemPackages = option (types.listOf types.package) [ ];
    users = {
      knownUsers = strings;
      knownGroups = strings;
      users = set {
        uid = needed types.int;
        gid = option types.int 20;
        description = text;
        isHidden = option types.bool true;
        home = path;
        shell = path;
      };
      groups = set {
        gid = needed types.int;
        description = option types.str "";
        members = strings;
      };
    };
    system.activationScripts = set { text = option types.lines ""; };
  };
}
