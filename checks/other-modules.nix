# home-manager: what can't protect says so.
{
  lib,
  pkgs,
  self,
}:
let
  evaluate = import ../tests/nix/modules/evaluate.nix { inherit lib pkgs self; };
  home = evaluate.home { programs.rcc.enable = true; };
  settled = evaluate.home {
    programs.rcc = {
      enable = true;
      machineIsSetUp = true;
    };
  };
  policied = evaluate.home {
    programs.rcc = {
      enable = true;
      policy.allow = [ "a.example:443" ];
    };
  };
in
assert
  home.failed == [ ]
  && lib.length home.config.warnings == 1
  && home.config.home.packages == [ pkgs.rcc ];
assert settled.config.warnings == [ ];
assert lib.length policied.failed == 1;
pkgs.runCommand "rcc-other-modules"
  { direnv = home.config.xdg.configFile."direnv/lib/rcc.sh".source; }
  ''
    bash -n $direnv
    grep -q '^use_rcc() {$' $direnv
    touch $out
  ''
