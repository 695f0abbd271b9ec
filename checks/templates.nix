# Each template is whole, asks for what rcc understands, and exports a devShell alone.
{
  lib,
  pkgs,
  self,
}:
let
  only =
    template:
    let
      flake = import (template.path + "/flake.nix");
      outputs = flake.outputs {
        nixpkgs = {
          inherit lib;
          legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" "x86_64-darwin" "aarch64-darwin" ] (
            _: pkgs
          );
        };
        self = { };
      };
    in
    lib.attrNames outputs == [ "devShells" ]
    && outputs.devShells.${pkgs.stdenv.hostPlatform.system} ? default;
  # One nixpkgs for all, which is rcc's own.
  locked = file: (lib.importJSON file).nodes.nixpkgs;
  same = template: locked (template.path + "/flake.lock") == locked ../flake.lock;
in
assert lib.all same (lib.attrValues self.templates);
assert lib.all only (lib.attrValues self.templates);
pkgs.runCommand "rcc-templates"
  {
    nativeBuildInputs = [ pkgs.rcc ];
    paths = map (template: template.path) (lib.attrValues self.templates);
  }
  ''
    for path in $paths; do
      rcc policy check --project $path/rcc.toml
      test "$(grep -v '^#' $path/.envrc)" = "use rcc"
      test "$(wc -l < $path/README.md)" -le 10
    done
    touch $out
  ''
