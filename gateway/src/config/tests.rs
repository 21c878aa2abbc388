//! What a configuration says, and what it says when it is wrong.

use std::{fmt::Debug, time::Duration};

use serde::de::DeserializeOwned;

use super::*;

const SHIPPED: &str = include_str!("../../../config/gateway.toml");
const ID: &str = "[gateway]\nid = \"barn-7\"\n";

fn read(text: &str) -> Result<Settings, String> {
    parse(text, Path::new("g.toml"), &|_| None).map_err(|error| error.to_string())
}

fn id_and(rest: &str) -> String {
    format!("{ID}{rest}")
}

fn uplink(rest: &str) -> String {
    format!("{ID}[[uplink]]\nname = \"c\"\nurl = \"mqtt://a\"\n{rest}")
}

fn problems(text: &str) -> String {
    read(text).expect_err(text)
}

#[test]
fn what_is_typed_wrong_says_file_line_key_and_what_to_do() {
    for (text, expected) in [
        (String::new(), "g.toml:1: the key \"gateway\" is missing; add it"),
        ("[gateway\n".into(), "g.toml:1: unclosed table, expected `]`"),
        (
            "[gateway]\nid = barn\n".into(),
            "g.toml:2: [gateway] id: string values must be quoted, expected literal string",
        ),
        (
            "[gateway]\nid = 7\n".into(),
            "g.toml:2: [gateway] id: invalid type: integer `7`, expected a string; put the value in quotes",
        ),
        ("[gateway]\n".into(), "g.toml:1: [gateway]: the key \"id\" is missing; add it"),
        (
            "[gatway]\nid = \"a\"\n".into(),
            "g.toml:1: [gatway]: unknown key \"gatway\"; did you mean \"gateway\"?",
        ),
        (
            id_and("[store]\nsegment_byte = \"1 GB\"\n"),
            "g.toml:4: [store] segment_byte: unknown key \"segment_byte\"; did you mean \"segment_bytes\"?",
        ),
        (id_and("[http]\nzebra = 7\n"), "g.toml:4: [http] zebra: unknown key \"zebra\"; known here: address"),
        (
            id_and("[uplink]\nname = \"c\"\n"),
            "g.toml:3: [uplink]: there may be several of these; write its name in two brackets, like [[uplink]]",
        ),
        (id_and("[[uplink]]\nname = \"c\"\n"), "g.toml:3: [[uplink]]: the key \"url\" is missing; add it"),
        (
            uplink("window = \"5\"\n"),
            "g.toml:6: [[uplink]] window: invalid type: string \"5\", expected a whole number without quotes",
        ),
    ] {
        assert_eq!(problems(&text), expected, "{text}");
    }
}

#[test]
fn what_can_not_be_meant_says_file_line_key_and_what_to_do() {
    for (text, expected) in [
        (
            "[gateway]\nid = \"Barn 7\"\n".into(),
            "g.toml:2: [gateway] id: \"Barn 7\" is no name; use 1 to 32 of a-z, 0-9 and -",
        ),
        (
            id_and("data_dir = \"\"\n"),
            "g.toml:3: [gateway] data_dir: an empty path; name a folder, like \"/var/lib/tidegate\"",
        ),
        (
            id_and("[store]\nsegment_bytes = \"12\"\n"),
            "g.toml:4: [store] segment_bytes: \"12\" is not within 1 MiB and 1 GiB",
        ),
        (
            id_and("[store]\nsegment_bytes = \"big\"\n"),
            "g.toml:4: [store] segment_bytes: \"big\" is no size; write a number and a unit, like \"64 MiB\"",
        ),
        (
            id_and("[store]\nretain = \"2 fortnights\"\n"),
            "g.toml:4: [store] retain: \"2 fortnights\" is no time; write a number and a unit, like \"24h\" or \"500ms\"",
        ),
        (
            id_and("[store]\nretain = \"400days\"\n"),
            "g.toml:4: [store] retain: \"400days\" is too long; 366 days at most",
        ),
        (
            id_and("[store]\nlinger_max = \"1m\"\n"),
            "g.toml:4: [store] linger_max: \"1m\" is too long; 10 s at most",
        ),
        (
            id_and("[store]\ndead_letters_max_bytes = \"1 MB\"\n"),
            "g.toml:4: [store] dead_letters_max_bytes: \"1 MB\" is too little; at least \"1 MiB\"",
        ),
        (
            id_and("[store]\nendurance = \"30 MB\"\n"),
            "g.toml:4: [store] endurance: \"30 MB\" is too little for a disk or a card; at least \"1 GB\"",
        ),
        (
            id_and("[store]\nwear_budget = \"20 GB\"\n"),
            "g.toml:4: [store] wear_budget: \"20 GB\" is no budget; write a size per day, like \"20 GB/day\", or \"unlimited\"",
        ),
        (
            id_and("[store]\nwear_budget = \"1 MB/day\"\n"),
            "g.toml:4: [store] wear_budget: \"1 MB/day\" is too little to work with; at least \"100 MB/day\"",
        ),
        (
            id_and("[[listener]]\naddress = \"localhost\"\n"),
            "g.toml:4: [[listener]] address: \"localhost\" is no address; write an IP address and a port, like \"127.0.0.1:1883\"",
        ),
        (
            id_and("[[listener]]\naddress = \"0.0.0.0:1883\"\n"),
            "g.toml:4: [[listener]] address: 0.0.0.0:1883 can be reached by others, and anybody could publish; set anonymous = false and add users, require client certificates by tls, or use a loopback address, like \"127.0.0.1:1883\"",
        ),
        (
            id_and("[[listener]]\ntls = { cert = \"c\" }\n"),
            "g.toml:4: [[listener]] tls: the key \"key\" is missing; add it",
        ),
        (
            id_and("[[listener]]\ntls = { cert = \"c\", key = \"k\", client_cert = \"always\" }\n"),
            "g.toml:4: [[listener]] tls.cert: c: the file can not be read: No such file or directory (os error 2)\n\
             g.toml:4: [[listener]] tls.client_cert: unknown client_cert \"always\"; known here: none, optional, required",
        ),
        (
            id_and("[[listener]]\ntls = { cert = \"c\", key = \"k\", client_cert = \"optional\" }\n"),
            "g.toml:4: [[listener]] tls.client_cert: client certificates from nobody; add \"client_ca\", the CA that signs them",
        ),
        (
            id_and("[[listener]]\ntls = { cert = \"c\", key = \"k\", crl = \"r\" }\n"),
            "g.toml:4: [[listener]] tls.crl: what is revoked, and no client certificates; add \"client_ca\", or remove this",
        ),
        (
            id_and("[[listener]]\n[[listener]]\naddress = \"127.0.0.1:1883\"\n"),
            "g.toml:5: [[listener]] address: 127.0.0.1:1883 is listened on already; remove one",
        ),
        (
            id_and("[[route]]\nfilter = \"a/#/b\"\n"),
            "g.toml:4: [[route]] filter: \"a/#/b\": '#' has to be the last level, and alone in it",
        ),
        (
            id_and("[[route]]\nfilter = \"a/b+\"\n"),
            "g.toml:4: [[route]] filter: \"a/b+\": '+' has to be alone in its level",
        ),
        (
            id_and("[[route]]\nfilter = \"a\"\npayload = \"jsno\"\n"),
            "g.toml:5: [[route]] payload: unknown payload \"jsno\"; did you mean \"json\"?",
        ),
        (
            id_and("[[route]]\nfilter = \"a\"\nclass = \"gold\"\n"),
            "g.toml:5: [[route]] class: unknown class \"gold\"; known here: urgent",
        ),
        (
            id_and("[[uplink]]\nname = \"c\"\nurl = \"mqtts://a\"\n"),
            "g.toml:5: [[uplink]] url: this version does not know \"mqtts://\"; it knows: mqtt",
        ),
        (
            id_and("[[uplink]]\nname = \"c\"\nurl = \"kafka://a\"\n"),
            "g.toml:5: [[uplink]] url: this version does not know \"kafka://\"; it knows: mqtt",
        ),
        (
            id_and("[[uplink]]\nname = \"c\"\nurl = \"mqtt://u:p@a\"\n"),
            "g.toml:5: [[uplink]] url: no user or password in the address: name them by \"user\" and \"password_file\"",
        ),
        (
            uplink("[[uplink]]\nname = \"c\"\nurl = \"mqtt://b\"\n"),
            "g.toml:7: [[uplink]] name: \"c\" is the name of another uplink; choose one of its own",
        ),
        (
            uplink("window = 70000\n"),
            "g.toml:6: [[uplink]] window: 70000 is not within 1 and 65535, MQTT's packet ids",
        ),
        (
            uplink("format = \"json\"\nvalues = \"scald\"\n"),
            "g.toml:7: [[uplink]] values: unknown values \"scald\"; did you mean \"scaled\"?",
        ),
        (
            uplink("wait_for_birth = \"400d\"\n"),
            "g.toml:6: [[uplink]] wait_for_birth: \"400d\" is too long; 366 days at most",
        ),
        (
            uplink("topic = \"{type}\"\n"),
            "g.toml:5: [[uplink]] url: the topic names {type}, which only the formats json and cloudevents know: set the format too",
        ),
        (
            uplink("format = \"row\"\n"),
            "g.toml:6: [[uplink]] format: unknown format \"row\"; did you mean \"raw\"?",
        ),
        (
            uplink("protocol = \"4\"\n"),
            "g.toml:6: [[uplink]] protocol: unknown protocol \"4\"; known here: 5, 3.1.1",
        ),
        (
            uplink("max_packet_bytes = \"1 GB\"\n"),
            "g.toml:6: [[uplink]] max_packet_bytes: \"1 GB\" is not within 1 KiB and 268435455 bytes, MQTT's own limit",
        ),
        (
            uplink("password_file = \"p\"\n"),
            "g.toml:6: [[uplink]] password_file: a password without a user; add \"user\"",
        ),
        (
            uplink("user = \"u\"\n"),
            "g.toml:6: [[uplink]] user: a user without a password; add \"password_file\" or set TIDEGATE_PASSWORD_C",
        ),
        (
            id_and("[limits]\nconnections = 0\n"),
            "g.toml:4: [limits] connections: 0 is not within 1 and 1000000",
        ),
        (
            id_and("[limits]\npublishes_per_second = 9\n"),
            "g.toml:4: [limits] publishes_per_second: 9 is not within 10 and 10000000",
        ),
        (
            id_and("[limits]\ninflight = 65536\n"),
            "g.toml:4: [limits] inflight: 65536 is not within 1 and 65535",
        ),
        (
            id_and("[limits]\npacket_bytes = \"1 KiB\"\n"),
            "g.toml:4: [limits] packet_bytes: \"1 KiB\" is not within 2048 and 16758766 bytes",
        ),
        (
            id_and("[limits]\nbytes_per_second = \"fast\"\n"),
            "g.toml:4: [limits] bytes_per_second: \"fast\" is no size; write a number and a unit, like \"64 MiB\"",
        ),
        (
            id_and("[limits]\nconnect_timeout = \"1h\"\n"),
            "g.toml:4: [limits] connect_timeout: \"1h\" is not within 100ms and 600s",
        ),
        (
            id_and("[limits]\nkeep_alive_max = \"0s\"\n"),
            "g.toml:4: [limits] keep_alive_max: \"0s\" is not within 1s and 65535s",
        ),
        (
            id_and("[limits]\ntopic_levels = 65\n"),
            "g.toml:4: [limits] topic_levels: 65 is not within 1 and 64",
        ),
        (
            id_and("[http]\naddress = \"[::]:8080\"\n"),
            "g.toml:4: [http] address: [::]:8080 can be reached by others, and HTTP has no users; use a loopback address, like \"127.0.0.1:8080\"",
        ),
    ] {
        assert_eq!(problems(&text), expected, "{text}");
    }
}

#[test]
fn all_that_is_wrong_is_said_at_once_in_the_order_of_the_file() {
    let text = format!("[http]\naddress = \"x\"\n{ID}[store]\nretain = \"y\"\n[[route]]\nfilter = \"#a\"\n");
    let text = problems(&text);
    let places: Vec<&str> = text.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["g.toml:2", "g.toml:6", "g.toml:8"]);
}

#[test]
fn too_many_of_a_thing_are_refused_at_the_first_that_is_too_many() {
    let routes = "[[route]]\nfilter = \"a\"\n".repeat(ROUTES_MAX + 1);
    let line = 3 + 2 * ROUTES_MAX;
    assert_eq!(
        problems(&format!("{ID}{routes}")),
        format!("g.toml:{line}: [[route]]: 257 routes are too many; 256 at most")
    );
}

#[test]
fn an_id_alone_is_a_configuration_and_the_shipped_file_shows_its_defaults() {
    let text = |value: &dyn Debug| format!("{value:?}");
    let (least, shipped) = (read(ID).unwrap(), read(SHIPPED).unwrap());
    assert_eq!(text(&least.store), text(&shipped.store));
    assert_eq!(text(&least.http), text(&shipped.http));
    let no_route = ingest::Settings { routes: vec![], ..shipped.ingest.clone() };
    assert_eq!(text(&least.ingest), text(&no_route));
    assert_eq!(text(&least.listeners), text(&shipped.listeners));
    assert!(least.uplinks.is_empty() && least.ingest.routes.is_empty());

    let bare = "[[route]]\nfilter = \"zigbee2mqtt/#\"\n[[uplink]]\nname = \"cloud\"\nurl = \"mqtt://broker.example\"\n";
    let bare = read(&format!("{ID}{bare}")).unwrap();
    assert_eq!(text(&bare.uplinks), text(&shipped.uplinks));
    assert_eq!(text(&bare.ingest.routes), text(&shipped.ingest.routes));
}

#[test]
fn the_shipped_file_lists_every_key() {
    let sections = [
        ("[gateway]", keys::<typed::Gateway>()),
        ("[store]", keys::<typed::Store>()),
        ("[limits]", keys::<typed::Limits>()),
        ("[access]", keys::<typed::Access>()),
        ("[[listener]]", keys::<typed::Listener>()),
        ("[[route]]", keys::<typed::Route>()),
        ("[[uplink]]", keys::<typed::Uplink>()),
        ("[http]", keys::<typed::Http>()),
    ];
    assert_eq!(keys::<typed::File>().len(), sections.len());
    for (header, keys) in sections {
        let section = SHIPPED.split_once(&format!("\n{header}\n")).expect(header).1;
        let section = section.split("\n[").next().unwrap();
        let shown: Vec<&str> = section
            .lines()
            .filter_map(|line| line.strip_prefix("# ").unwrap_or(line).split_once(" = "))
            .map(|(key, _)| key)
            .collect();
        for key in &keys {
            assert!(shown.contains(&key.as_str()), "{header} {key} is missing from config/gateway.toml");
        }
        assert_eq!(
            shown.len(),
            keys.len(),
            "{header} shows a key twice, or one that is not known: {shown:?}"
        );
    }
}

/// The keys that serde knows for a table, as it says itself when it meets an unknown one.
fn keys<T: DeserializeOwned + Debug>() -> Vec<String> {
    let error = toml::from_str::<T>("zzz = 1").unwrap_err();
    error.message().split('`').skip(3).step_by(2).map(str::to_owned).collect()
}

#[test]
fn a_password_comes_from_its_file_or_from_its_variable() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("g.toml");
    std::fs::write(folder.path().join("p"), "from a file\n").unwrap();
    let uplink = format!("{ID}[[uplink]]\nname = \"the-cloud\"\nurl = \"mqtt://a\"\nuser = \"u\"\n");
    let variable =
        |name: &str| (name == "TIDEGATE_PASSWORD_THE_CLOUD").then(|| "from the environment".to_owned());
    let password = |text: &str| parse(text, &file, &variable).unwrap().uplinks[0].password.clone();
    let expected = |text: &str| Some(crate::uplink::Password::new(text.to_owned()));
    assert!(password(&uplink) == expected("from the environment"));
    assert!(password(&format!("{uplink}password_file = \"p\"\n")) == expected("from a file"));

    let missing =
        parse(&format!("{uplink}password_file = \"q\"\n"), &file, &variable).unwrap_err().to_string();
    assert!(missing.contains(":7: [[uplink]] password_file: "), "{missing}");
    std::fs::write(folder.path().join("q"), "\n").unwrap();
    let empty = parse(&format!("{uplink}password_file = \"q\"\n"), &file, &variable).unwrap_err().to_string();
    assert!(empty.ends_with("holds 0 bytes; a password has 1 to 16384"), "{empty}");
}

#[test]
fn users_and_rules_are_checked_with_the_configuration_and_named_with_their_own_line() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("g.toml");
    let text = format!("{ID}[access]\nusers = \"users.toml\"\nacl = \"acl.toml\"\n");
    let wrong = || parse(&text, &file, &|_| None).unwrap_err().to_string();
    assert!(wrong().contains("g.toml:4: [access] users: "), "{}", wrong());
    assert!(wrong().contains("there is no such file; `tidegate users add NAME"), "{}", wrong());
    std::fs::write(&file, &text).unwrap();
    assert_eq!(users_file(&file).unwrap(), Some(folder.path().join("users.toml")));

    let users = folder.path().join("users.toml");
    std::fs::write(&users, "[[user]]\nname = \"a\"\n").unwrap();
    std::fs::set_permissions(&users, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(folder.path().join("acl.toml"), "[[rule]]\nwho = \"a\"\npublish = [\"#a\"]\n").unwrap();
    assert!(wrong().contains("run: chmod 600 "), "{}", wrong());
    assert!(
        wrong().contains("g.toml:5: [access] acl: ") && wrong().contains("acl.toml:3: \"#a\": "),
        "{}",
        wrong()
    );
    std::fs::set_permissions(&users, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(wrong().contains("users.toml:1: a user without a password"), "{}", wrong());

    std::fs::write(&users, "[[user]]\nname = \"a\"\ncertificate_only = true\n").unwrap();
    std::fs::write(folder.path().join("acl.toml"), "").unwrap();
    let settings = parse(&text, &file, &|_| None).unwrap();
    assert!(settings.ingest.access.has_users());
    assert!(!read(ID).unwrap().ingest.access.has_users());
}

#[test]
fn relative_paths_start_at_the_folder_of_the_file() {
    let settings =
        parse(&format!("{ID}data_dir = \"data\"\n"), Path::new("/etc/t/g.toml"), &|_| None).unwrap();
    assert_eq!(settings.store.data_dir, Path::new("/etc/t/data"));
}

#[test]
fn a_file_that_can_not_be_read_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("g.toml");
    let reason = |file: &Path| match load(file, &|_| None).unwrap_err() {
        ConfigError::Unreadable { reason, .. } => reason,
        wrong => panic!("{wrong}"),
    };
    assert_eq!(reason(&file), "there is no such file");
    std::fs::write(&file, [0xff; 9]).unwrap();
    assert_eq!(reason(&file), "the file is not UTF-8 text");
    std::fs::write(&file, " ".repeat(CONFIG_BYTES_MAX as usize + 1)).unwrap();
    assert_eq!(reason(&file), "1048577 bytes are too many for a configuration (1048576 at most)");
}

#[test]
fn limits_are_meant_as_they_are_typed() {
    let typed = "[limits]\nconnections = 5\nconnections_per_second = 6\nconnections_per_address = 7\n\
                 connect_timeout = \"1s\"\ntls_timeout = \"2s\"\nwrite_timeout = \"3s\"\nkeep_alive_max = \"4s\"\n\
                 packet_bytes = \"4 KiB\"\ninflight = 8\npublishes_per_second = 90\nbytes_per_second = \"8 KiB\"\n\
                 topic_bytes = \"10\"\ntopic_levels = 2\nsubscriptions = 11\nsessions = 12\nqueued_messages = 13\n\
                 queued_bytes = \"14\"\nretained_messages = 15\nretained_bytes = \"16\"\n";
    let meant = ingest::Settings {
        access: ingest::Settings::default().access,
        connections_max: 5,
        connections_per_s_max: 6,
        connections_per_address_max: Some(7),
        connect_timeout: Duration::from_secs(1),
        tls_timeout: Duration::from_secs(2),
        write_timeout: Duration::from_secs(3),
        keep_alive_max_s: 4,
        packet_bytes_max: 4096,
        inflight_max: 8,
        publishes_per_s_max: Some(90),
        bytes_per_s_max: Some(8192),
        topics: ingest::topics::Limits { bytes: 10, levels: 2 },
        subscriptions_max: 11,
        sessions_max: 12,
        queued_messages_max: 13,
        queued_bytes_max: 14,
        retained_messages_max: 15,
        retained_bytes_max: 16,
        routes: vec![],
    };
    assert_eq!(format!("{:?}", read(&id_and(typed)).unwrap().ingest), format!("{meant:?}"));
}
