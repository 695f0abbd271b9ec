# programs.rcc: the person's own part. Policy, firewall and gateway are root's, and can't come from a home folder.
{ self }:
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.programs.rcc;
  options = import ./options.nix { inherit lib; };
  roots = "services.rcc of the NixOS module, or `sudo rcc setup` elsewhere";
  unset = (lib.evalModules { modules = [ { options.policy = options.policy; } ]; }).config.policy;
in
{
  options.programs.rcc = {
    inherit (options) enable policy;
    package = options.package self.packages.${pkgs.stdenv.hostPlatform.system}.rcc;
    machineIsSetUp = lib.mkOption {
      type = lib.types.bool;
      default = false;
      description = "Whether root has set rcc up on this machine, so that nothing need be said of it.";
      example = true;
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.policy == unset;
        message = "programs.rcc.policy: the policy is root's, as what an agent may reach must not be the agent's user's to change: set it in ${roots}.";
      }
    ];
    warnings =
      lib.optional (!cfg.machineIsSetUp)
        "programs.rcc installs the command alone. The host firewall and the gateway can't come from home-manager, and without them no session starts: ${roots}; then programs.rcc.machineIsSetUp = true;";
    home.packages = [ cfg.package ];
    # `use rcc` in an .envrc. Without direnv nobody reads it.
    xdg.configFile."direnv/lib/rcc.sh".source = pkgs.runCommand "rcc-direnv.sh" {
      nativeBuildInputs = [ cfg.package ];
    } "rcc toolchain env --direnv > $out";
  };
}
