# `rccPackages`, and `rcc` by itself, for a nixpkgs of one's own.
{ nix2container }:
final: _: {
  rccPackages = import ./packages.nix {
    pkgs = final;
    inherit nix2container;
  };
  inherit (final.rccPackages) rcc;
}
