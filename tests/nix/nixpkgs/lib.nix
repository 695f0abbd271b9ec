# Of nixpkgs' lib what the flake uses, written anew; each function does what nixpkgs' manual says of it.
let
  modules = import ./modules.nix { inherit lib; };
  lib = modules // rec {
    inherit (builtins)
      all
      any
      attrNames
      attrValues
      concatLists
      concatMap
      concatStringsSep
      elem
      elemAt
      filter
      foldl'
      functionArgs
      genList
      hasAttr
      head
      isAttrs
      isBool
      isFloat
      isFunction
      isInt
      isList
      isPath
      isString
      length
      listToAttrs
      map
      mapAttrs
      removeAttrs
      replaceStrings
      stringLength
      tail
      toJSON
      ;
    importJSON = path: builtins.fromJSON (builtins.readFile path);
    fileContents = path: removeSuffix "\n" (builtins.readFile path);
    importTOML = path: builtins.fromTOML (builtins.readFile path);
    id = x: x;
    nameValuePair = name: value: { inherit name value; };
    genAttrs = names: f: listToAttrs (map (name: nameValuePair name (f name)) names);
    mapAttrs' = f: set: listToAttrs (map (name: f name set.${name}) (attrNames set));
    mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);
    filterAttrs =
      keep: set:
      listToAttrs (
        concatMap (name: if keep name set.${name} then [ (nameValuePair name set.${name}) ] else [ ]) (
          attrNames set
        )
      );
    toList = value: if isList value then value else [ value ];
    imap1 = f: list: genList (i: f (i + 1) (elemAt list i)) (length list);
    flatten = value: if isList value then concatMap flatten value else [ value ];
    defaultTo = default: value: if value == null then default else value;
    isDerivation = value: value.type or null == "derivation";
    traceIf =
      condition: text: value:
      if condition then builtins.trace text value else value;
    warnIf = condition: text: traceIf condition "warning: ${text}";
    throwIf =
      condition: text: value:
      if condition then throw text else value;
    optionalAttrs = condition: set: if condition then set else { };
    optionals = condition: list: if condition then list else [ ];
    optional = condition: value: if condition then [ value ] else [ ];
    optionalString = condition: text: if condition then text else "";
    last = list: elemAt list (length list - 1);
    reverseList =
      list:
      let
        n = length list;
      in
      genList (i: elemAt list (n - 1 - i)) n;
    concatStrings = concatStringsSep "";
    concatMapStringsSep =
      separator: f: list:
      concatStringsSep separator (map f list);
    concatMapStrings = concatMapStringsSep "";
    splitString =
      separator: text:
      filter isString (builtins.split (replaceStrings [ "." "{" ] [ "\\." "\\{" ] separator) text);
    hasPrefix = prefix: text: builtins.substring 0 (stringLength prefix) text == prefix;
    hasSuffix =
      suffix: text:
      let
        from = stringLength text - stringLength suffix;
      in
      from >= 0 && builtins.substring from (stringLength suffix) text == suffix;
    removePrefix =
      prefix: text:
      if hasPrefix prefix text then
        builtins.substring (stringLength prefix) (stringLength text) text
      else
        text;
    removeSuffix =
      suffix: text:
      if hasSuffix suffix text then
        builtins.substring 0 (stringLength text - stringLength suffix) text
      else
        text;
    toLower =
      let
        letters = text: map (i: builtins.substring i 1 text) (genList (i: i) (stringLength text));
      in
      replaceStrings (letters "ABCDEFGHIJKLMNOPQRSTUVWXYZ") (letters "abcdefghijklmnopqrstuvwxyz");
    escapeShellArg =
      text:
      if builtins.match "[0-9A-Za-z,._+:@%/-]+" (toString text) != null then
        toString text
      else
        "'${replaceStrings [ "'" ] [ "'\\''" ] (toString text)}'";
    escapeShellArgs = concatMapStringsSep " " escapeShellArg;
    getName = package: package.pname or (builtins.parseDrvName (package.name or package)).name;
    getExe = package: "${package}/bin/${package.meta.mainProgram or (getName package)}";
    getExe' = package: name: "${package}/bin/${name}";
    makeLibraryPath = packages: concatMapStringsSep ":" (package: "${package}/lib") packages;
    makeBinPath = packages: concatMapStringsSep ":" (package: "${package}/bin") packages;
    licenses = {
      asl20.free = true;
      mit.free = true;
      unfree.free = false;
    };
    platforms.darwin = [
      "x86_64-darwin"
      "aarch64-darwin"
    ];
    platforms.linux = [
      "x86_64-linux"
      "aarch64-linux"
    ];
    sourceTypes.binaryNativeCode = { };
  };
in
lib
