# The pinned Claude Code, by system, read from the one table that there is: the launcher's own.
{ lib }:
let
  text = builtins.readFile ../rust/rcc-launch/src/agent/pins.rs;
  table = lib.head (lib.splitString "\n];" (lib.last (lib.splitString "pub const CLAUDE" text)));
  field =
    entry: name:
    let
      found = builtins.split "[ \n]${name}: \"([^\"]*)\"" entry;
    in
    if lib.length found == 3 then
      lib.head (lib.elemAt found 1)
    else
      throw "nix/pins.nix does not understand rust/rcc-launch/src/agent/pins.rs: no `${name}` in an entry";
  names = [
    "version"
    "arch"
    "package"
    "integrity"
    "program"
  ];
  entries = map (entry: lib.genAttrs names (field entry)) (lib.tail (lib.splitString "Pin {" table));
in
lib.listToAttrs (map (pin: lib.nameValuePair "${pin.arch}-linux" pin) entries)
