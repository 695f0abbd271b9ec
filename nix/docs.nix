# The documents as they stand in the repository.
{ runCommand, version }:
runCommand "rcc-docs-${version}"
  {
    readme = ../README.md;
    docs = ../docs;
  }
  ''
    mkdir -p $out/share/doc/rcc
    cp $readme $out/share/doc/rcc/README.md
    cp -r $docs $out/share/doc/rcc/docs
  ''
