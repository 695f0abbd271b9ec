//! Outputs as they were published from Macs (docs/machines.md has the sources), shortened, with other names.

use super::*;

const USER_RECORD: &str = "\
dsAttrTypeNative:IsHidden: 1
AppleMetaNodeLocation: /Local/Default
GeneratedUID: 01234567-89AB-CDEF-0123-456789ABCDEF
NFSHomeDirectory: /var/empty
Password: *
PrimaryGroupID: 391
RealName:
 rcc gateway
RecordName: _rcc
RecordType: dsRecTypeStandard:Users
UniqueID: 391
UserShell: /usr/bin/false
";
const GROUP_RECORD: &str = "\
AppleMetaNodeLocation: /Local/Default
GeneratedUID: 01234567-89AB-CDEF-0123-456789ABCDE0
Password: *
PrimaryGroupID: 392
RecordName: _rccnet
RecordType: dsRecTypeStandard:Groups
";

#[test]
fn accounts_are_ours_and_others_of_the_same_id_are_named() {
    let group = GROUP_RECORD.replace("392", "391").replace("_rccnet", "_rcc");
    let mut asked = Asked {
        user: Some(USER_RECORD),
        group: Some(&group),
        net_group: Some(GROUP_RECORD),
        users: "_rcc   391\nroot   0\n",
        groups: "_rcc   391\n_rccnet   392\nwheel  0\ncom.apple.access_ssh    399\n",
    };
    let accounts_found = accounts(&asked);
    let user = accounts_found.user.clone().unwrap();
    assert_eq!(
        (user.id, user.gid, user.shell.as_deref(), user.hidden),
        (Some(391), Some(391), Some("/usr/bin/false"), true)
    );
    assert_eq!(accounts_found.net_group.clone().unwrap(), GroupAccount { id: Some(392), members: Vec::new() });
    assert!(accounts_found.same_user_id.is_empty() && accounts_found.same_group_id.is_empty());
    let with_members =
        format!("{GROUP_RECORD}GroupMembership: alice bob\nNestedGroups: ABCDEFAB-CDEF-ABCD-EFAB-CDEF00000050\n");
    asked.net_group = Some(&with_members);
    asked.groups = "_rcc 391\n_rccnet 392\ntheirs 392\nothers 391\n";
    asked.users = "_rcc 391\nbob 391\n";
    let found = accounts(&asked);
    assert_eq!(found.net_group.unwrap().members.len(), 3);
    assert_eq!((found.same_user_id, found.same_group_id), (vec!["bob".into()], vec!["others".into(), "theirs".into()]));
}

#[test]
fn the_status_services_answer_names_what_is_wrong() {
    let of = |text: &str| match pf(text).unwrap() {
        Pf::Answers { state, wrong } => (state, wrong),
        Pf::Silent(why) => panic!("{why}"),
    };
    let drifted = r#"{"version":1,"state":"drifted","fingerprint":"x","differences":[{"place":"pf itself","wanted":"on","found":"off"}],"table":"t"}"#;
    assert_eq!(of(drifted), ("drifted".into(), vec!["pf itself".into()]));
    let problem =
        r#"{"version":1,"problems":[{"code":904,"subject":"_rcc","what":"there is no such account","remedy":"r"}]}"#;
    assert_eq!(of(problem), ("not readable".into(), vec!["there is no such account".into()]));
    assert_eq!(of(r#"{"state":"in force","differences":[]}"#), ("in force".into(), Vec::new()));
    // An answer that is not understood is in force of nothing.
    assert_eq!(pf("{}").unwrap(), Pf::Answers { state: "not readable".into(), wrong: Vec::new() });
    assert!(pf("").is_err());
}

const MACHINE: &str = r#"{
 "Created": "2026-01-10T10:00:00+01:00",
 "GvProxy": { "GvProxy": { "PidFile": "/p", "SSHPort": 47022 } },
 "HostUser": { "Rootful": false, "UID": 501, "HostUserModified": false },
 "LastUp": "2026-01-10T10:00:00+01:00",
 "Mounts": [
  { "OriginalInput": "/Users/alice/src/app:/Users/alice/src/app", "ReadOnly": false, "Source": "/Users/alice/src/app",
    "Tag": "a2a0ee2c717462feb1de2f5afd59de5fd2d8", "Target": "/Users/alice/src/app", "Type": "virtiofs", "VSockNumber": null }
 ],
 "Name": "rcc",
 "Resources": { "CPUs": 4, "DiskSize": 100, "Memory": 4096, "USBs": [] },
 "SSH": { "IdentityPath": "/Users/alice/.local/share/containers/podman/machine/machine", "Port": 47022, "RemoteUsername": "core" },
 "Version": 1,
 "AppleHypervisor": { "Vfkit": { "VirtualMachine": { "vcpus": 4 } } },
 "Starting": false,
 "Rosetta": true
}"#;

#[test]
fn a_machines_file_says_what_it_sees() {
    let found = machine(MACHINE).unwrap();
    assert_eq!(found.provider.as_deref(), Some("applehv"));
    assert_eq!((found.rootful, found.ssh_port, found.disk), (false, Some(47022), Some(100)));
    assert_eq!(found.mounts, [Mount { source: "/Users/alice/src/app".into(), read_only: false }]);
    assert!(machine("{}").unwrap_err().contains("whose containers"));
    assert!(machine(&MACHINE.replace("\"Source\"", "\"Sauce\"")).unwrap_err().contains("no source"));
    assert!(machine("not json").is_err());
}

const DNS: &str = "\
DNS configuration

resolver #1
  search domain[0] : home.example
  nameserver[0] : 192.168.1.1
  nameserver[1] : fe80::1%en0
  if_index : 14 (en0)
  flags    : Request A records, Request AAAA records
  reach    : 0x00020002 (Reachable,Directly Reachable Address)

resolver #2
  domain   : corp.example.
  nameserver[0] : 100.100.100.100
  flags    : Supplemental, Request A records, Request AAAA records
  order    : 101200

resolver #3
  domain   : local
  options  : mdns
  timeout  : 5
  flags    : Request A records
  order    : 300000

DNS configuration (for scoped queries)

resolver #1
  nameserver[0] : 1.1.1.1
  if_index : 14 (en0)
  flags    : Scoped, Request A records
";

#[test]
fn resolvers_are_general_or_some_names() {
    let (all, split) = resolvers(DNS);
    assert_eq!(all, ["192.168.1.1", "fe80::1%en0"]);
    assert_eq!(split, [("corp.example.".to_owned(), "100.100.100.100".to_owned())]);
    assert_eq!(resolvers("No DNS configuration available\n"), (Vec::new(), Vec::new()));
}

#[test]
fn vpns_tunnels_extensions_and_proxies() {
    let listed = "\
Available network connection services in the current set (*=enabled):
* (Connected)      F8F1A6C0-0000-0000-0000-000000000000 VPN (com.wireguard.macos) \"office\"   [VPN:com.wireguard.macos]
* (Disconnected)   F8F1A6C0-0000-0000-0000-000000000001 VPN (com.example.vpn) \"other\"   [VPN:com.example.vpn]
";
    let route = "   route to: default\ndestination: default\n       mask: default\n    gateway: 10.0.0.1\n  interface: utun4\n      flags: <UP,GATEWAY,DONE,STATIC,PRCLONING,GLOBAL>\n";
    let extended = "\
3 extension(s)
--- com.apple.system_extension.network_extension (Go to 'System Settings > General > Login Items & Extensions > Network Extensions' to modify these system extension(s))
enabled\tactive\tteamID\tbundleID (version)\tname\t[state]
\t\tXSJ59WMJBM\tcom.example.old (16.2.674/16.2.674)\tOld\t[terminated waiting to uninstall on reboot]
*\t*\tJ6S6Q257EK\tcom.example.filter (6.5.1/3106797)\tExample Filter\t[activated enabled]
--- com.apple.system_extension.endpoint_security (Go to 'System Settings')
enabled\tactive\tteamID\tbundleID (version)\tname\t[state]
*\t*\tEXAMPLE456\tcom.example.edr (1.4/104)\tExample EDR\t[activated enabled]
";
    let proxied = "<dictionary> {\n  ExceptionsList : <array> {\n    0 : *.local\n  }\n  HTTPEnable : 0\n  HTTPSEnable : 1\n  HTTPSPort : 3128\n  HTTPSProxy : proxy.corp.example\n  ProxyAutoConfigEnable : 0\n  SOCKSEnable : 0\n}\n";
    let found = network(listed, route, DNS, extended, "Firewall is enabled. (State = 1) \n", proxied);
    assert_eq!(found.vpns, ["office"]);
    assert_eq!(found.tunnel.as_deref(), Some("utun4"));
    assert_eq!(found.extensions, ["Example Filter"]);
    assert_eq!(found.application_firewall, Some(1));
    assert_eq!(found.proxies, ["HTTPS"]);
    assert_eq!(tunnel(&route.replace("utun4", "en0")), None);
    assert_eq!(tunnel("route: writing to routing socket: not in table\n"), None);
    assert_eq!(application_firewall("Firewall is disabled. (State = 0)"), Some(0));
    assert_eq!(application_firewall(""), None);
}

#[test]
fn folders_that_macos_guards_or_copies_away() {
    let of = |path: &str, synced| apple_folder(path, "/Users/alice", synced);
    let named = |name: &str| Some(name.to_owned());
    assert_eq!(of("/Users/alice/src/app", true), (None, None));
    assert_eq!(of("/Users/alice/Desktop/app", false), (named("Desktop"), None));
    assert_eq!(of("/Users/alice/Documents", true), (named("Documents"), named("iCloud Drive")));
    assert_eq!(of("/Users/alice/Documents2/app", true), (None, None));
    assert_eq!(of("/Users/alice/Library/Mobile Documents/com~apple~CloudDocs/app", false).1, named("iCloud Drive"));
    assert_eq!(of("/Users/alice/Library/CloudStorage/Dropbox/app", false).1, named("Dropbox"));
    assert_eq!(of("/Volumes/src/app", true), (None, None));
}

#[test]
fn sysctl_and_sw_vers_are_fields() {
    let said = fields("ProductName:\t\tmacOS\nProductVersion:\t\t15.3.1\nBuildVersion:\t\t24D70\n");
    assert_eq!(said["ProductVersion"], "15.3.1");
    assert_eq!(fields("kern.hv_support: 1\nsysctl.proc_translated: 0\n")["kern.hv_support"], "1");
}
