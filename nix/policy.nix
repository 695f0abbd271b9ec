# A policy as TOML: of attributes, whose names are the policy's own keys. Nothing is judged here: `rcc policy check` does,
# when what this gives is built.
{ lib }:
let
  # A TOML basic string is a JSON string but for DEL, which rcc then refuses.
  string = builtins.toJSON;
  key = name: if builtins.match "[A-Za-z0-9_-]+" name != null then name else string name;
  wanted = lib.filterAttrs (_: value: value != null);
  pairs = set: lib.mapAttrsToList (name: v: "${key name} = ${value v}") (wanted set);
  value =
    v:
    if lib.isAttrs v then
      "{ ${lib.concatStringsSep ", " (pairs v)} }"
    else if lib.isList v then
      "[${lib.concatMapStringsSep ", " value v}]"
    else if lib.isPath v then
      string "${v}"
    else
      builtins.toJSON v;
  section = name: set: "\n[${key name}]\n" + lib.concatMapStrings (line: line + "\n") (pairs set);
  # Sections end with the next one, so they come last.
  render =
    settings:
    let
      plain = lib.filterAttrs (_: v: !lib.isAttrs v) settings;
      sections = lib.filterAttrs (_: lib.isAttrs) settings;
    in
    lib.concatMapStrings (line: line + "\n") (pairs plain)
    + lib.concatStrings (lib.mapAttrsToList section sections);
  # The text as a file that rcc has checked; the build fails with line and column otherwise.
  checked =
    name: flags:
    {
      pkgs,
      settings,
      rcc ? pkgs.rcc,
    }:
    pkgs.runCommand name
      {
        nativeBuildInputs = [ rcc ];
        text = render settings;
        passAsFile = [ "text" ];
      }
      ''
        cp "$textPath" ${name}
        rcc policy check ${flags} ${name}
        cp ${name} $out
      '';
in
{
  inherit render;
  # Root's: { pkgs, settings }.
  file = checked "policy.toml" "";
  # A project's, which only asks.
  request = checked "rcc.toml" "--project";
}
