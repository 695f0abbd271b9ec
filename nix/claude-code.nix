# Claude Code as its maker publishes it: fetched by npm, where npm's own settings say, and known by its hash. Neither
# stripped nor patched: the program carries its code behind its ELF sections. Laid out as rcc's folder of agents is.
{
  lib,
  stdenvNoCC,
  nodejs,
  cacert,
  pin,
}:
let
  inherit (pin) version;
  tarball = stdenvNoCC.mkDerivation {
    name = "${baseNameOf pin.package}-${version}.tgz";
    nativeBuildInputs = [ nodejs ];
    outputHash = pin.integrity;
    outputHashMode = "flat";
    # A mirror, a proxy, and an authority that it needs.
    impureEnvVars = [
      "npm_config_registry"
      "npm_config_cafile"
      "NODE_EXTRA_CA_CERTS"
      "http_proxy"
      "https_proxy"
      "no_proxy"
      "HTTPS_PROXY"
      "HTTP_PROXY"
      "NO_PROXY"
    ];
    SSL_CERT_FILE = "${cacert}/etc/ssl/certs/ca-bundle.crt";
    preferLocalBuild = true;
    buildCommand = ''
      export HOME=$PWD
      mkdir packed
      npm pack ${pin.package}@${version} --ignore-scripts --loglevel=error --no-progress --no-update-notifier \
        --cache $PWD/cache --pack-destination packed
      mv packed/*.tgz $out
    '';
  };
in
stdenvNoCC.mkDerivation {
  pname = "claude-code";
  inherit version;
  src = tarball;
  buildCommand = ''
    folder=$out/agents/claude/${version}
    mkdir -p $folder $out/bin
    tar -xzf $src --strip-components=1 --no-same-owner -C $folder
    chmod 0555 $folder/${pin.program}
    ln -s ../agents/claude/${version}/${pin.program} $out/bin/claude
  '';
  meta = {
    description = "Anthropic's coding agent, of the version and hash that rcc pins";
    license = lib.licenses.unfree;
    mainProgram = "claude";
    platforms = [
      "x86_64-linux"
      "aarch64-linux"
    ];
    sourceProvenance = [ lib.sourceTypes.binaryNativeCode ];
  };
}
