# services.rcc on macOS: the policy is the one written by hand, the daemons' files and the accounts are setup's, and the
# carrier comes last. Evaluated and built on Linux; what launchd makes of it only a Mac shows.
{
  lib,
  pkgs,
  self,
}:
let
  evaluate = import ../tests/nix/modules/evaluate.nix { inherit lib pkgs self; };
  off = evaluate.darwin { };
  on = evaluate.darwin {
    services.rcc = {
      enable = true;
      policy = import ../tests/nix/policy.nix;
    };
  };
  leaky = evaluate.darwin {
    services.rcc = {
      enable = true;
      policy.credentials.anthropic.key_file = ../README.md;
    };
  };
  inherit (on) config;
in
assert off.failed == [ ] && off.config.environment.etc == { };
assert off.config.environment.launchDaemons == { } && off.config.users.knownUsers == [ ];
# One says that nothing was tried on a Mac.
assert on.failed == [ ] && lib.length on.config.warnings == 1;
assert lib.length leaky.failed == 1 && lib.length leaky.config.warnings == 2;
assert config.users.users._rcc.gid == config.users.groups._rcc.gid;
assert config.users.users._rcc.gid != config.users.groups._rccnet.gid;
assert config.users.groups._rccnet.members == [ ] && config.users.users._rcc.isHidden;
# `rcc` is where activation places it.
assert config.environment.systemPackages == [ ];
assert lib.all (name: lib.elem name config.users.knownGroups) (lib.attrNames config.users.groups);
pkgs.runCommand "rcc-darwin-module"
  {
    nativeBuildInputs = [ pkgs.rcc ];
    policy = config.environment.etc."rcc/policy.toml".source;
    byHand = ../tests/nix/policy.toml;
    daemons = lib.mapAttrsToList (_: file: file.source) config.environment.launchDaemons;
    activation = config.system.activationScripts.postActivation.text;
  }
  ''
    test "$(rcc policy check $policy)" = "$(rcc policy check $byHand)"
    mkdir setups modules
    rcc-setup units --macos --programs ${pkgs.rcc}/bin --into setups
    rm setups/ENABLED setups/ACCOUNTS
    cp $daemons modules
    diff -r setups modules
    diff <(printf '%s' "$activation") <(echo "${pkgs.rcc}/bin/rcc-setup place")
    touch $out
  ''
