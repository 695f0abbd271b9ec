# What cargo reads to build the programs, and nothing else: so a change of documents or Nix files rebuilds nothing.
# Cargo.lock is of the whole workspace: of the tests' packages it wants manifests and sources, too.
{ lib }:
let
  root = toString ../.;
  wanted =
    path: type:
    let
      parts = lib.splitString "/" (lib.removePrefix "${root}/" (toString path));
      part = n: if lib.length parts > n then lib.elemAt parts n else null;
    in
    if part 0 == "rust" then
      true
    else if part 0 == "tests" then
      lib.length parts < 3 && type == "directory" && part 1 != "nix"
      || lib.length parts == 3 && part 2 == "Cargo.toml"
      ||
        (type == "directory" || lib.hasSuffix ".rs" (toString path))
        && lib.elem (part 2) [
          "src"
          "examples"
          "tests"
        ]
    else
      lib.elem (part 0) [
        "Cargo.toml"
        "Cargo.lock"
      ];
in
builtins.path {
  name = "rcc-source";
  path = ../.;
  filter = wanted;
}
