# services.rcc on macOS: the same options, and a refusal. There is no firewall, gateway or launcher of rcc's for macOS
# yet, and a module that wrote a policy would seem to protect.
{ self }:
{
  config,
  lib,
  pkgs,
  ...
}:
let
  options = import ./options.nix { inherit lib; };
in
{
  options.services.rcc = {
    inherit (options) enable policy;
    package = options.package self.packages.${pkgs.stdenv.hostPlatform.system}.rcc;
  };

  config.assertions = [
    {
      assertion = !config.services.rcc.enable;
      message = "services.rcc: rcc does not run on macOS yet, so nothing would be protected: services.rcc.enable = false; and use a Linux machine for agents.";
    }
  ];
}
