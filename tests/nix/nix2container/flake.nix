{
  description = "a stand-in for nix2container: an image and its layers as JSON of the store paths in them";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs"; # always followed

  outputs =
    { nixpkgs, ... }:
    {
      packages = nixpkgs.lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (
        system:
        let
          pkgs = nixpkgs.legacyPackages.${system};
          json = name: value: pkgs.writeText name (builtins.toJSON value);
        in
        {
          nix2container = {
            buildLayer = arguments: json "layer.json" arguments;
            buildImage = arguments: json "image-${arguments.name}.json" arguments;
          };
        }
      );
    };
}
