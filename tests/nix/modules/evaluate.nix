# A module of rcc's with a configuration, on stubs: { config, failed }, the failed being its assertions' messages.
{
  lib,
  pkgs,
  self,
}:
let
  of =
    stubs: module: configuration:
    let
      inherit
        (lib.evalModules {
          specialArgs = { inherit pkgs; };
          modules = [
            stubs
            module
            configuration
          ];
        })
        config
        ;
    in
    {
      inherit config;
      failed = map (a: a.message) (lib.filter (a: !a.assertion) config.assertions);
    };
in
{
  nixos = of ./nixos.nix self.nixosModules.default;
  darwin = of ./darwin.nix self.darwinModules.default;
  home = of ./home.nix self.homeManagerModules.default;
}
