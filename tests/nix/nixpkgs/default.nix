{
  system,
  config ? { },
  overlays ? [ ],
}:
let
  lib = import ./lib.nix;
  host = import ./host.nix;
  isDarwin = lib.hasSuffix "-darwin" system;
  platform = {
    inherit system isDarwin;
    isLinux = !isDarwin;
    isx86_64 = lib.hasPrefix "x86_64-" system;
  };

  # What is no variable of a build.
  notVariables = [
    "meta"
    "passthru"
    "cargoLock"
    "env"
    "nativeBuildInputs"
    "buildInputs"
    "packages"
    "inputsFrom"
    "doCheck"
    "preferLocalBuild"
  ];
  # As nixpkgs does: what is not free is an error where it is used, unless it was allowed by name.
  licensed =
    arguments: drv:
    let
      licences = arguments.meta.license or [ ];
      free = lib.all (licence: licence.free) (if lib.isList licences then licences else [ licences ]);
      allowed = (config.allowUnfreePredicate or (_: false)) drv;
    in
    if free || allowed then
      drv
    else
      throw "Package ‘${drv.name}’ has an unfree license, refusing to evaluate.";
  # What was fetched already, by the same hash, is not fetched again.
  fetched =
    given:
    given
    // lib.optionalAttrs (given.pname or "" == "claude-code" && host.agents != "") {
      src = "";
      buildCommand = ''
        mkdir -p $out/agents/claude
        cp -r --no-preserve=mode ${host.agents}/claude/${given.version} $out/agents/claude/
        chmod 0555 $out/agents/claude/${given.version}/claude
        mkdir $out/bin
        ln -s ../agents/claude/${given.version}/claude $out/bin/claude
      '';
    };
  mkDerivation =
    given:
    let
      arguments = fetched given;
      inputs =
        arguments.nativeBuildInputs or [ ] ++ arguments.buildInputs or [ ] ++ arguments.packages or [ ];
      name = arguments.name or "${arguments.pname}-${arguments.version}";
      drv = derivation (
        removeAttrs arguments notVariables
        // arguments.env or { }
        // {
          inherit name system;
          builder = host.bash;
          # `nix develop` writes into each of these.
          outputs = [ "out" ];
          args = [
            "-e"
            ./builder.sh
          ];
          stdenv = setup;
          hostPath = host.path;
          inputPath = lib.makeBinPath inputs;
        }
      );
      extra = {
        meta = arguments.meta or { };
        pname = arguments.pname or name;
        version = arguments.version or "";
        overrideAttrs = f: mkDerivation (arguments // f arguments);
      }
      // arguments.passthru or { };
    in
    licensed arguments (drv // extra);
  setup = derivation {
    name = "stdenv";
    inherit system;
    builder = host.bash;
    args = [
      "-c"
      # Not `cp` last: bash would become it, it closes its outputs before it ends, and Nix then kills what it takes for done.
      "PATH=${host.path}; mkdir -p $out; cp ${./setup.sh} $out/setup; :"
    ];
  };

  runCommand =
    name: attributes: buildCommand:
    mkDerivation ({ inherit name buildCommand; } // attributes);
  # A package of links to the machine's programs of these names.
  hostTools =
    name: programs:
    runCommand name { inherit programs; } ''
      mkdir -p $out/bin
      for program in $programs; do
        if found=$(PATH=${host.tools} command -v $program); then
          ln -s "$found" $out/bin/$program
        else
          printf '#!%s\necho "%s: this machine has none, and the stand-in neither" >&2\nexit 127\n' \
            ${host.bash} $program > $out/bin/$program
          chmod +x $out/bin/$program
        fi
      done
    '';
  hostTool = name: hostTools name [ name ];

  base = {
    inherit lib mkDerivation runCommand;
    path = ./.;
    stdenv = {
      inherit mkDerivation;
      hostPlatform = platform;
      inherit (platform) isDarwin;
      # Of whatever libraries there are.
      cc.bintools.dynamicLinker = "${if host.libraries == "" then "/lib64" else host.libraries}/${
        if platform.isx86_64 then "ld-linux-x86-64.so.2" else "ld-linux-aarch64.so.1"
      }";
      cc.libc.static = runCommand "libc-static" { } "mkdir -p $out/bin";
      # With the C library's, which nixpkgs' loader finds by itself.
      cc.cc.lib = runCommand "libstdc++" { } (
        "mkdir -p $out; " + lib.optionalString (host.libraries != "") "ln -s ${host.libraries} $out/lib"
      );
    };
    stdenvNoCC = base.stdenv;
    rustPlatform.buildRustPackage =
      arguments:
      mkDerivation (
        arguments
        // {
          inherit (host) programs;
          CARGO_HOME = host.cargoHome;
          RUSTUP_HOME = host.rustupHome;
          hostCargoTarget = host.cargoTarget;
        }
      );
    # Built outside, in a folder of `tools`.
    buildGoModule = arguments: hostTool arguments.pname;
    runCommandLocal = runCommand;
    writeShellApplication = { name, text, ... }: base.writeShellScriptBin name text;
    skopeo = hostTool "skopeo";
    mkShell =
      arguments:
      mkDerivation (
        {
          name = "nix-shell";
          buildCommand = "mkdir -p $out";
        }
        // lib.optionalAttrs (host.libraries != "") { LD_LIBRARY_PATH = host.libraries; }
        // arguments
      );
    mkShellNoCC = base.mkShell;
    fetchurl =
      { url, hash }:
      mkDerivation {
        name = baseNameOf url;
        outputHash = hash;
        outputHashMode = "flat";
        buildCommand = "echo 'the stand-in fetches nothing' >&2; exit 1";
      };
    writeTextFile =
      {
        name,
        text,
        executable ? false,
        destination ? "",
        meta ? { },
      }:
      runCommand name
        {
          inherit text meta;
          passAsFile = [ "text" ];
        }
        ''
          file=$out${destination}
          mkdir -p "$(dirname "$file")"
          cp "$textPath" "$file"
          ${lib.optionalString executable "chmod +x $file"}
        '';
    writeText = name: text: base.writeTextFile { inherit name text; };
    writeShellScriptBin =
      name: text:
      base.writeTextFile {
        inherit name;
        executable = true;
        destination = "/bin/${name}";
        text = "#!${host.bash}\n${text}\n";
        meta.mainProgram = name;
      };
    buildEnv =
      {
        name,
        paths,
        pathsToLink ? [ "/" ],
        ...
      }:
      runCommand name { inherit paths pathsToLink; } ''
        mkdir -p $out
        for path in $paths; do
          for below in $pathsToLink; do
            [ -e "$path$below" ] || continue
            mkdir -p "$out$below"
            cp -rsn "$path$below/." "$out$below/"
          done
        done
      '';
    closureInfo =
      { rootPaths }:
      mkDerivation {
        name = "closure-info";
        exportReferencesGraph = lib.concatLists (
          lib.genList (i: [
            "graph-${toString i}"
            (lib.elemAt rootPaths i)
          ]) (lib.length rootPaths)
        );
        buildCommand = ''
          mkdir $out
          grep -h "^$NIX_STORE/" graph-* | sort -u > $out/store-paths
        '';
      };
    callPackage =
      file: more:
      let
        f = if lib.isFunction file then file else import file;
      in
      f (builtins.intersectAttrs (lib.functionArgs f) final // more);
    cacert = runCommand "cacert" { } ''
      mkdir -p $out/etc/ssl/certs
      cp /etc/ssl/certs/ca-certificates.crt $out/etc/ssl/certs/ca-bundle.crt
    '';
    runtimeShell = host.bash;
    bash = hostTool "bash";
    bashInteractive = base.bash;
    coreutils = hostTools "coreutils" [
      "cat"
      "cp"
      "ls"
      "mkdir"
      "mv"
      "rm"
      "env"
      "readlink"
    ];
    gnugrep = hostTool "grep";
    gnused = hostTool "sed";
    findutils = hostTool "find";
    gawk = hostTool "awk";
    diffutils = hostTools "diffutils" [
      "diff"
      "cmp"
    ];
    gnupatch = hostTool "patch";
    gnutar = hostTool "tar";
    gzip = hostTool "gzip";
    xz = hostTool "xz";
    less = hostTool "less";
    which = hostTool "which";
    procps = hostTool "ps";
    jq = hostTool "jq";
    openssh = hostTool "ssh";
    ripgrep = hostTool "rg";
    curl = hostTool "curl";
    git = hostTool "git";
    gcc = hostTools "gcc" [
      "gcc"
      "cc"
    ];
    python3 = hostTool "python3";
    uv = hostTool "uv";
    go = hostTool "go" // {
      GOARCH = if platform.isx86_64 then "amd64" else "arm64";
    };
    cargo = hostTool "cargo";
    clippy = hostTool "cargo-clippy";
    rustc = hostTool "rustc";
    rustfmt = hostTool "rustfmt";
    rust-analyzer = hostTool "rust-analyzer";
    nodejs = hostTools "nodejs" [
      "node"
      "npm"
    ];
    nix-ld = runCommand "nix-ld" { } ''
      mkdir -p $out/libexec
      ${lib.optionalString (host.nixLd != "") "cp ${host.nixLd} $out/libexec/nix-ld"}
    '';
    zlib = runCommand "zlib" { } "mkdir -p $out/bin";
    openssl = hostTool "openssl";
    nftables = hostTool "nft";
    podman = hostTool "podman";
    gvproxy = hostTool "gvproxy" // {
      version = "0.8.9";
    };
    deadnix = hostTool "deadnix";
    nixfmt = hostTool "nixfmt";
    nixfmt-tree = base.nixfmt;
  };
  final = lib.foldl' (before: overlay: before // overlay final before) base overlays;
in
final
