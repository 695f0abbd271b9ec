# All packages of one system.
{ pkgs, nix2container }:
let
  inherit (pkgs) lib;
  inherit (pkgs.stdenv) hostPlatform;
  inherit (hostPlatform) system;
  inherit (lib.importTOML ../Cargo.toml) workspace;
  inherit (workspace.package) version;
  # Written by the release workflow: { VERSION.SYSTEM = { url, hash }; }.
  released = (lib.importJSON ./releases.json).${version}.${system} or null;
  pin = (import ./pins.nix { inherit lib; }).${system} or null;
  # What a Mac's agents run in their Linux machine.
  guest =
    (import pkgs.path {
      system = lib.removeSuffix "-darwin" system + "-linux";
    }).callPackage
      ./rcc.nix
      {
        inherit version;
        guest = null;
      };
  everywhere = rec {
    docs = pkgs.callPackage ./docs.nix { inherit version; };
    rcc-src = pkgs.callPackage ./rcc.nix { inherit version guest; };
    rcc =
      if released == null then rcc-src else pkgs.callPackage ./released.nix { inherit version released; };
    default = rcc;
  };
  linux = rec {
    gateway = pkgs.callPackage ./gateway.nix {
      inherit (everywhere) rcc;
      inherit version;
    };
    claude-code = pkgs.callPackage ./claude-code.nix { inherit pin; };
    tools = pkgs.callPackage ./tools.nix { };
    image = pkgs.callPackage ./image.nix {
      rcc-tools = tools;
      inherit claude-code version;
      inherit (nix2container.packages.${system}) nix2container;
    };
  };
in
everywhere // lib.optionalAttrs hostPlatform.isLinux linux
