# The same programs as a release has them, by hash.
{
  lib,
  stdenvNoCC,
  fetchurl,
  version,
  released,
}:
stdenvNoCC.mkDerivation {
  pname = "rcc";
  inherit version;
  src = fetchurl { inherit (released) url hash; };
  buildCommand = ''
    mkdir -p $out/bin
    tar -xzf $src -C $out/bin
  '';
  meta = {
    mainProgram = "rcc";
    platforms = lib.platforms.linux ++ lib.platforms.darwin;
    sourceProvenance = [ lib.sourceTypes.binaryNativeCode ];
  };
}
