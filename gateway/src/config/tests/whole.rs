//! Whole files: defaults, every key, secrets, paths, limits.

use super::*;
use crate::mqtt::Password;

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
        ("[gateway]", keys::<raw::Gateway>()),
        ("[store]", keys::<raw::Store>()),
        ("[limits]", keys::<raw::Limits>()),
        ("[access]", keys::<raw::Access>()),
        ("[[listener]]", keys::<raw::Listener>()),
        ("[[route]]", keys::<raw::Route>()),
        ("[[uplink]]", keys::<uplink::Keys>()),
        ("[http]", keys::<raw::Http>()),
    ];
    assert_eq!(keys::<raw::File>().len(), sections.len());
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

#[test]
fn a_listener_speaks_mqtt_over_websocket_if_it_is_told_to() {
    let text =
        "[[listener]]\nprotocol = \"ws\"\n[[listener]]\naddress = \"127.0.0.1:1\"\nprotocol = \"mqtt\"\n";
    let settings = read(&format!("{ID}{text}")).unwrap();
    let protocols: Vec<_> = settings.listeners.iter().map(|listener| listener.protocol).collect();
    assert_eq!(protocols, [ingest::Protocol::WebSocket, ingest::Protocol::Mqtt]);
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
    let password = |text: &str| {
        let source = parse(text, &file, &variable).unwrap().uplinks[0].clone().broker().password.clone();
        source.map(|source| source.read(0).unwrap().password)
    };
    let expected = |text: &str| Some(Password::new(text));
    assert!(password(&uplink) == expected("from the environment"));
    assert!(password(&format!("{uplink}password_file = \"p\"\n")) == expected("from a file"));
    let unset = parse(&uplink, &file, &|_| None).unwrap();
    assert!(unset.uplinks[0].clone().broker().password.is_none(), "a user may have none");
}

#[test]
fn a_password_file_that_is_missing_is_a_fault_to_a_check_and_waited_for_by_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("g.toml");
    let own = "user = \"u\"\npassword_file = \"p\"\n";
    let proxy = "proxy = \"http://a\"\nproxy_user = \"u\"\nproxy_password_file = \"p\"\n";
    for (keys, place) in
        [(own, ":7: [[uplink]] password_file: "), (proxy, ":8: [[uplink]] proxy_password_file: ")]
    {
        let start = |more: &str| parse(&format!("{}{more}", uplink(keys)), &file, &|_| None);
        let check = || start("").unwrap().complete().map_err(|error| error.to_string());
        let missing = check().unwrap_err();
        assert!(missing.contains(place) && missing.contains("cannot be read: No such file"), "{missing}");
        std::fs::write(folder.path().join("p"), "\n").unwrap();
        let empty = check().unwrap_err();
        assert!(empty.ends_with("holds 0 bytes; a password has 1 to 16384"), "{empty}");
        // One look mends a file: what a start refuses is told with what it would wait for.
        let both = start("window = 0\n").unwrap_err().lines();
        assert!(both.len() == 2 && both[0].contains(place) && both[1].contains(" window: "), "{both:?}");
        std::fs::write(folder.path().join("p"), "secret\n").unwrap();
        assert_eq!(check().map(|settings| settings.uplinks.len()), Ok(1));
        std::fs::remove_file(folder.path().join("p")).unwrap();
    }
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
fn a_file_that_cannot_be_read_says_why() {
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
    assert_eq!(reason(&file), "the file cannot be read: it has more than 1048576 bytes");
}

#[test]
fn limits_are_meant_as_they_are_typed() {
    let text = "[limits]\nconnections = 5\nconnections_per_second = 6\nconnections_per_address = 7\n\
                 connect_timeout = \"1s\"\ntls_timeout = \"2s\"\nwrite_timeout = \"3s\"\nkeep_alive_max = \"4s\"\n\
                 packet_bytes = \"4 KiB\"\ninflight = 8\npublishes_per_second = 90\nbytes_per_second = \"8 KiB\"\n\
                 topic_bytes = \"10\"\ntopic_levels = 2\nsubscriptions = 11\nsessions = 12\nqueued_messages = 13\n\
                 queued_bytes = \"14\"\nretained_messages = 15\nretained_bytes = \"16\"\n";
    let expected = ingest::Settings {
        access: ingest::Settings::default().access,
        connections_max: 5,
        waiting_max: ingest::limits::WAITING_MAX,
        closing_max: ingest::limits::CLOSING_MAX,
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
        topics: crate::mqtt::topics::TopicLimits { bytes: 10, levels: 2 },
        subscriptions_max: 11,
        sessions_max: 12,
        queued_messages_max: 13,
        queued_bytes_max: 14,
        retained_messages_max: 15,
        retained_bytes_max: 16,
        routes: vec![],
    };
    assert_eq!(format!("{:?}", read(&id_and(text)).unwrap().ingest), format!("{expected:?}"));
}
