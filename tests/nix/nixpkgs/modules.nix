# A small module system with the meaning and the messages of nixpkgs': what rcc's modules and the stubs around them use.
# A definition is { priority, value }; the lowest priority wins, equal ones merge.
{ lib }:
let
  inherit (builtins)
    all
    attrNames
    concatLists
    concatMap
    elem
    filter
    foldl'
    head
    isAttrs
    isBool
    isFloat
    isFunction
    isInt
    isList
    isPath
    isString
    listToAttrs
    map
    mapAttrs
    removeAttrs
    ;
  usual = 100;
  dotted = builtins.concatStringsSep ".";
  is = type: value: isAttrs value && (value._type or null) == type;

  # A value in mkIf, mkMerge, mkOverride: the definitions that are left of it.
  definitions =
    priority: value:
    if is "if" value then
      if value.condition then definitions priority value.content else [ ]
    else if is "merge" value then
      concatMap (definitions priority) value.contents
    else if is "override" value then
      definitions value.priority value.content
    else
      [ { inherit priority value; } ];
  # The same above options: onto each attribute, so that a condition may read what others define.
  pushDown =
    value:
    if is "if" value then
      map (mapAttrs (_: api.mkIf value.condition)) (pushDown value.content)
    else if is "merge" value then
      concatMap pushDown value.contents
    else if is "override" value then
      map (mapAttrs (_: api.mkOverride value.priority)) (pushDown value.content)
    else
      [ value ];
  winners =
    found:
    let
      lowest = foldl' (least: d: if d.priority < least then d.priority else least) 10000 found;
    in
    filter (d: d.priority == lowest) found;
  mistyped =
    place: description:
    throw "A definition for option `${dotted place}' is not of type `${description}'.";

  # A type whose equal definitions are one.
  scalar = description: check: {
    inherit description check;
    merge =
      place: found:
      let
        won = winners found;
        inherit (head won) value;
      in
      if !all (d: check d.value) won then
        mistyped place description
      else if !all (d: d.value == value) won then
        throw "The option `${dotted place}' has conflicting definition values."
      else
        value;
  };
  checked =
    description: check: merge:
    let
      type = {
        inherit description check;
        merge =
          place: found:
          let
            won = winners found;
          in
          if all (d: check d.value) won then merge place won else mistyped place description;
      };
    in
    type;
  types = rec {
    anything = scalar "anything" (_: true);
    raw = anything;
    bool = scalar "boolean" isBool;
    int = scalar "signed integer" isInt;
    number = scalar "signed integer or floating point number" (v: isInt v || isFloat v);
    str = scalar "string" isString;
    nonEmptyStr = scalar "non-empty string" (v: isString v && v != "");
    path = scalar "absolute path" (
      v: isPath v || isString v && builtins.substring 0 1 v == "/" || isAttrs v && v ? outPath
    );
    package = scalar "package" (v: isAttrs v && v ? outPath);
    ints.positive = scalar "positive integer, meaning >0" (v: isInt v && v > 0);
    ints.between =
      low: high:
      scalar "integer between ${toString low} and ${toString high} (both inclusive)" (
        v: isInt v && v >= low && v <= high
      );
    enum =
      values:
      scalar "one of ${builtins.concatStringsSep ", " (map builtins.toJSON values)}" (v: elem v values);
    attrs = checked "attribute set" isAttrs (_: foldl' (all: d: all // d.value) { });
    lines = checked "strings concatenated with \"\\n\"" isString (
      _: found: builtins.concatStringsSep "\n" (map (d: d.value) found)
    );
    nullOr =
      type:
      checked "null or ${type.description}" (v: v == null || type.check v) (
        place: found: if all (d: d.value == null) found then null else type.merge place found
      );
    either =
      a: b:
      checked "${a.description} or ${b.description}" (v: a.check v || b.check v) (
        place: found: (if all (d: a.check d.value) found then a else b).merge place found
      );
    oneOf = types: foldl' either (head types) (builtins.tail types);
    listOf =
      type:
      checked "list of ${type.description}" isList (
        place: found:
        let
          entry = n: i: "\"[definition ${toString n}-entry ${toString i}]\"";
          of =
            n: d:
            concatLists (
              lib.imap1 (
                i: v: map (one: type.merge (place ++ [ (entry n i) ]) [ one ]) (definitions usual v)
              ) d.value
            );
        in
        concatLists (lib.imap1 of found)
      );
    attrsOf =
      type:
      checked "attribute set of ${type.description}" isAttrs (
        place: found:
        let
          names = attrNames (foldl' (all: d: all // d.value) { } found);
          of =
            name: concatMap (d: if d.value ? ${name} then definitions usual d.value.${name} else [ ]) found;
          merged = name: {
            inherit name;
            value = type.merge (place ++ [ name ]) (of name);
          };
        in
        listToAttrs (map merged (filter (name: of name != [ ]) names))
      );
    lazyAttrsOf = attrsOf;
    submodule =
      modules:
      checked "submodule" (v: isAttrs v || isFunction v || isPath v) (
        place: found:
        (evalModules {
          prefix = place;
          specialArgs.name = lib.last place;
          modules =
            lib.toModules modules
            ++ map (d: {
              inherit (d) value;
              _type = "definitions";
            }) found;
        }).config
      );
  };

  # Modules as they come -> { options, config } each. Imports follow level by level, as in nixpkgs.
  load =
    arguments: modules:
    let
      called =
        f:
        f (arguments // mapAttrs (name: _: arguments.${name} or (missing name)) (builtins.functionArgs f));
      missing = name: throw "module argument `${name}' is missing";
      one =
        module:
        let
          value = if isPath module || isString module then import module else module;
          result = if isFunction value then called value else value;
        in
        if is "definitions" result then
          if isAttrs result.value then
            {
              imports = [ ];
              options = { };
              config = result.value;
            }
          else
            one result.value
        else
          {
            imports = result.imports or [ ];
            options = result.options or { };
            config =
              if result ? config || result ? options then
                result.config or { }
              else
                removeAttrs result [
                  "imports"
                  "_file"
                  "_class"
                  "key"
                ];
          };
      level = map one modules;
      next = concatMap (module: module.imports) level;
    in
    level ++ (if next == [ ] then [ ] else load arguments next);

  # What is declared and defined at a place -> its values.
  walk =
    place: declared: defined:
    let
      definedHere = concatMap pushDown defined;
      names = attrNames (foldl' (all: d: all // d) { } declared);
      unknown = filter (name: name != "_module" && !elem name names) (concatMap attrNames definedHere);
      at = name: concatMap (set: if set ? ${name} then [ set.${name} ] else [ ]);
      value =
        name:
        let
          here = place ++ [ name ];
          declarations = at name declared;
        in
        if is "option" (head declarations) then
          option here (head declarations) (at name definedHere)
        else
          walk here declarations (at name definedHere);
    in
    if unknown != [ ] then
      throw "The option `${dotted (place ++ [ (head unknown) ])}' does not exist."
    else
      listToAttrs (
        map (name: {
          inherit name;
          value = value name;
        }) names
      );
  option =
    place: declaration: values:
    let
      found =
        concatMap (definitions usual) values
        ++ (if declaration ? default then definitions 1500 declaration.default else [ ]);
      merged = (declaration.type or types.anything).merge place found;
    in
    if found == [ ] then
      throw "The option `${dotted place}' was accessed but has no value defined. Try setting the option."
    else
      (declaration.apply or (v: v)) merged;
  evalModules =
    {
      modules,
      specialArgs ? { },
      prefix ? [ ],
      class ? null,
    }:
    let
      arguments = {
        inherit lib config options;
      }
      // specialArgs;
      # nixpkgs merges later modules first.
      loaded = lib.reverseList (load arguments modules);
      options = map (module: module.options) loaded;
      config = walk prefix options (map (module: module.config) loaded);
    in
    {
      inherit config options class;
    };
  api = {
    inherit evalModules types;
    toModules = modules: if isList modules then modules else [ modules ];
    mkOption = arguments: arguments // { _type = "option"; };
    mkEnableOption =
      what:
      api.mkOption {
        type = types.bool;
        default = false;
        description = "Whether to enable ${what}.";
      };
    mkIf = condition: content: {
      _type = "if";
      inherit condition content;
    };
    mkMerge = contents: {
      _type = "merge";
      inherit contents;
    };
    mkOverride = priority: content: {
      _type = "override";
      inherit priority content;
    };
    mkDefault = api.mkOverride 1000;
    mkForce = api.mkOverride 50;
    literalExpression = text: {
      _type = "literalExpression";
      inherit text;
    };
  };
in
api
