{
  description = "rcc: an AI coding agent on your own machine that can change one project and reach the hosts a policy names";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    nix2container = {
      url = "github:nlewo/nix2container";
      inputs.nixpkgs.follows = "nixpkgs";
    };
  };

  # Wiring alone: packages and lib are in nix/, the rest each in the folder of its name.
  outputs =
    {
      self,
      nixpkgs,
      nix2container,
    }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
        "x86_64-darwin"
        "aarch64-darwin"
      ];
      pkgsOf = lib.genAttrs systems (
        system:
        import nixpkgs {
          inherit system;
          overlays = [ self.overlays.default ];
          # Claude Code's licence is its own; nothing else that is not free comes along.
          config.allowUnfreePredicate = package: lib.getName package == "claude-code";
        }
      );
      perSystem = f: lib.mapAttrs (_: f) pkgsOf;
    in
    {
      overlays.default = import ./nix/overlay.nix { inherit nix2container; };
      packages = perSystem (pkgs: pkgs.rccPackages);
      apps = perSystem (pkgs: import ./apps { inherit lib pkgs; });
      devShells = perSystem (pkgs: {
        default = pkgs.callPackage ./nix/shell.nix { };
      });
      formatter = perSystem (pkgs: pkgs.nixfmt-tree);
      checks = perSystem (pkgs: import ./checks { inherit lib pkgs self; });
      templates = import ./templates;
      lib = import ./nix/lib.nix { inherit lib; };
      nixosModules.default = import ./modules/nixos.nix { inherit self; };
      darwinModules.default = import ./modules/darwin.nix { inherit self; };
      homeManagerModules.default = import ./modules/home.nix { inherit self; };
    };
}
