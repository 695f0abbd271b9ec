# services.rcc: the policy that it writes is the one written by hand, the units are setup's, and nothing is asserted
# against a good configuration.
{
  lib,
  pkgs,
  self,
}:
let
  evaluate = import ../tests/nix/modules/evaluate.nix { inherit lib pkgs self; };
  off = evaluate.nixos { };
  on = evaluate.nixos {
    services.rcc = {
      enable = true;
      policy = import ../tests/nix/policy.nix;
      toolchain = [ pkgs.nodejs ];
      agents.tidy = {
        user = "alice";
        project = "/home/alice/app";
        prompt = ''Say "100%", not $HOME.'';
        calendar = "daily";
      };
    };
  };
  leaky = evaluate.nixos {
    services.rcc = {
      enable = true;
      policy.credentials.anthropic.key_file = ../README.md;
    };
  };
  inherit (on) config;
  service = config.systemd.user.services.rcc-agent-tidy;
in
assert off.config.environment.etc == { } && off.config.systemd.packages == [ ];
assert on.failed == [ ] && on.config.warnings == [ ];
assert lib.length leaky.failed == 1 && lib.length leaky.config.warnings == 1;
assert config.users.users.rcc.isSystemUser && config.users.users.alice.linger;
assert config.environment.etc."rcc/policy.toml".mode == "0644";
assert service.unitConfig.ConditionUser == "alice";
assert lib.hasSuffix ''"-p" "Say \"100%%\", not $$HOME."'' service.serviceConfig.ExecStart;
pkgs.runCommand "rcc-nixos-module"
  {
    nativeBuildInputs = [ pkgs.rcc ];
    policy = config.environment.etc."rcc/policy.toml".source;
    byHand = ../tests/nix/policy.toml;
    # A test applies this one in a real kernel.
    kept = ../tests/nix/module.toml;
    units = lib.head config.systemd.packages;
    tools = config.environment.etc."rcc/tools".source;
  }
  ''
    test "$(rcc policy check $policy)" = "$(rcc policy check $byHand)"
    diff $kept $policy
    test -L $tools/bin/node && test -L $tools/bin/rg && ! test -e $tools/share/rcc/rcc.toml
    mkdir setups
    rcc-setup units --programs ${pkgs.rcc}/bin --into setups
    rm setups/ENABLED
    diff -r setups $units/lib/systemd/system
    cp $policy $out
  ''
