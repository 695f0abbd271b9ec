{
  description = "Python with uv";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  # A devShell and nothing else: an agent may come to edit this file, so `nix run` should find nothing to start here.
  outputs =
    { nixpkgs, ... }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
        "x86_64-darwin"
        "aarch64-darwin"
      ];
    in
    {
      devShells = nixpkgs.lib.genAttrs systems (
        system:
        let
          pkgs = nixpkgs.legacyPackages.${system};
        in
        {
          default = pkgs.mkShell {
            # Wheels are loaded by nixpkgs' python, which looks for their libraries here and not by nix-ld.
            LD_LIBRARY_PATH = pkgs.lib.optionalString pkgs.stdenv.hostPlatform.isLinux (
              pkgs.lib.makeLibraryPath [
                pkgs.stdenv.cc.cc.lib
                pkgs.zlib
              ]
            );
            packages = [
              pkgs.bashInteractive
              pkgs.coreutils
              pkgs.findutils
              pkgs.gnugrep
              pkgs.gnused
              pkgs.git
              pkgs.python3
              pkgs.uv
            ]
            ++ pkgs.lib.optionals pkgs.stdenv.hostPlatform.isLinux [
              # Programs that were not built by Nix (of npm, wheels, uv) find their loader and libraries by these.
              pkgs.nix-ld
              pkgs.stdenv.cc.cc.lib
              pkgs.zlib
              pkgs.openssl
            ];
          };
        }
      );
    };
}
