//! What a configuration says, and what it says when it is wrong.

mod layers;
mod platforms;
mod whole;

use std::{fmt::Debug, time::Duration};

use serde::de::DeserializeOwned;

use super::*;

const SHIPPED: &str = include_str!("../../../../config/gateway.toml");
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
fn what_cannot_be_meant_says_file_line_key_and_what_to_do() {
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
            id_and("health_interval = \"0s\"\n"),
            "g.toml:3: [gateway] health_interval: \"0s\" is too often; 1 s at least, or take the key out for none",
        ),
        (
            id_and("health_interval = \"2days\"\n"),
            "g.toml:3: [gateway] health_interval: \"2days\" is too long; 24 hours at most",
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
            "g.toml:4: [[listener]] tls.cert: c: the file cannot be read: No such file or directory (os error 2)\n\
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
            id_and("[[listener]]\nprotocol = \"wss\"\n"),
            "g.toml:4: [[listener]] protocol: unknown protocol \"wss\"; did you mean \"ws\"?",
        ),
        (
            id_and("[[listener]]\nmax_record_bytes = 512\n"),
            "g.toml:4: [[listener]] max_record_bytes: records are TLS's, and this listener has none; add \"tls\", or remove this",
        ),
        (
            id_and("[[listener]]\nmax_record_bytes = 16385\ntls = { cert = \"c\", key = \"k\" }\n"),
            "g.toml:4: [[listener]] max_record_bytes: 16385 is not within 64 and 16384\n\
             g.toml:5: [[listener]] tls.cert: c: the file cannot be read: No such file or directory (os error 2)",
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
            id_and("[[route]]\nfilter = \"a\"\npayload = \"bytes\"\n"),
            "g.toml:5: [[route]] payload: unknown payload \"bytes\"; known here: json, text, opaque",
        ),
        (
            id_and("[[route]]\nfilter = \"a\"\nclass = \"gold\"\n"),
            "g.toml:5: [[route]] class: unknown class \"gold\"; known here: urgent",
        ),
        (
            id_and("[[route]]\nfilter = \"a/#\"\ndevice = \"{0}\"\n"),
            "g.toml:5: [[route]] device: \"{0}\" names no device; write the number of a topic level in braces, \"{1}\" to \"{64}\", or \"{client}\" for the client id",
        ),
        (
            id_and("[[route]]\nfilter = \"a/#\"\ndevice = \"{65}\"\n"),
            "g.toml:5: [[route]] device: \"{65}\" names no device; write the number of a topic level in braces, \"{1}\" to \"{64}\", or \"{client}\" for the client id",
        ),
        (
            id_and("[[route]]\nfilter = \"a/#\"\ndevice = \"{02}\"\n"),
            "g.toml:5: [[route]] device: \"{02}\" names no device; write the number of a topic level in braces, \"{1}\" to \"{64}\", or \"{client}\" for the client id",
        ),
        (
            id_and("[[route]]\nfilter = \"a/#\"\ndevice = \"{+2}\"\n"),
            "g.toml:5: [[route]] device: \"{+2}\" names no device; write the number of a topic level in braces, \"{1}\" to \"{64}\", or \"{client}\" for the client id",
        ),
        (
            id_and("[[route]]\nfilter = \"a/#\"\ndevice = \"2\"\n"),
            "g.toml:5: [[route]] device: \"2\" names no device; write the number of a topic level in braces, \"{1}\" to \"{64}\", or \"{client}\" for the client id",
        ),
        (
            id_and("[[route]]\nfilter = \"a/#\"\ndevice = \"{topic}\"\n"),
            "g.toml:5: [[route]] device: \"{topic}\" names no device; write the number of a topic level in braces, \"{1}\" to \"{64}\", or \"{client}\" for the client id",
        ),
        (
            id_and("[[route]]\nfilter = \"a/#\"\ndevice = \"{1}-{2}\"\n"),
            "g.toml:5: [[route]] device: \"{1}-{2}\" names no device; write the number of a topic level in braces, \"{1}\" to \"{64}\", or \"{client}\" for the client id",
        ),
        (
            id_and("[[route]]\nfilter = \"a/#\"\ndevice = \"\"\n"),
            "g.toml:5: [[route]] device: \"\" names no device; write the number of a topic level in braces, \"{1}\" to \"{64}\", or \"{client}\" for the client id",
        ),
        (
            id_and("[[route]]\nfilter = \"a/+\"\ndevice = \"{3}\"\n"),
            "g.toml:5: [[route]] device: no topic of \"a/+\" has a level 3; it has 2, counted from 1",
        ),
        (
            id_and("[[uplink]]\nname = \"c\"\nurl = \"kafka://a\"\n"),
            "g.toml:5: [[uplink]] url: this version does not know \"kafka://\"; it knows: mqtt, mqtts, ws, wss, nats",
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
            uplink("nats = { stream = \"EVENTS\" }\n"),
            "g.toml:6: [[uplink]] nats: for nats:// alone; remove it",
        ),
        (
            id_and("[[uplink]]\nname = \"c\"\nurl = \"nats://a\"\nprotocol = \"5\"\n"),
            "g.toml:6: [[uplink]] protocol: for mqtt:// alone; remove it",
        ),
        (
            id_and("[[uplink]]\nname = \"c\"\nurl = \"nats://a\"\nnats = { stream = \"a.b\" }\n"),
            "g.toml:6: [[uplink]] nats.stream: \"a.b\" is no name of a stream: 1 to 255 bytes without spaces and . * > / \\",
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
            "g.toml:5: [[uplink]] url: the topic names {type}, which the format raw does not know: set another format too",
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
            uplink("client_id = \"a\"\n[[uplink]]\nname = \"d\"\nurl = \"mqtt://a\"\nclient_id = \"a\"\n"),
            "g.toml:8: [[uplink]] name: uplink \"c\" is client \"a\" of a:1883 too, and each would throw the other out; give one of them a \"client_id\" of its own",
        ),
        (
            id_and(
                "[[uplink]]\nname = \"c\"\nurl = \"mqtt://a\"\ncommands = \"c/{device}\"\n[[uplink]]\nname = \"c-commands\"\nurl = \"mqtt://a\"\n",
            ),
            "g.toml:8: [[uplink]] name: uplink \"c\" is client \"tidegate-barn-7-c-commands\" of a:1883 too, and each would throw the other out; give one of them a \"client_id\" of its own",
        ),
        (
            id_and(
                "[[uplink]]\nname = \"c\"\nurl = \"mqtt://[::1]\"\nclient_id = \"a\"\n[[uplink]]\nname = \"d\"\nurl = \"ws://[::1]:1883\"\nclient_id = \"a\"\n",
            ),
            "g.toml:8: [[uplink]] name: uplink \"c\" is client \"a\" of [::1]:1883 too, and each would throw the other out; give one of them a \"client_id\" of its own",
        ),
        (uplink("user = \"\"\n"), "g.toml:6: [[uplink]] user: empty; name it, or take the key out"),
        (
            uplink("ack_timeout = \"0s\"\n"),
            "g.toml:6: [[uplink]] ack_timeout: \"0s\" would never be kept; take the key out for 30 s",
        ),
        (
            uplink("client_id = \"{device}\"\n"),
            "g.toml:6: [[uplink]] client_id: \"{device}\" names {device}; known here: {gateway} and {uplink}",
        ),
        (
            uplink("user = \"u\"\nrenew = \"5s\"\n"),
            "g.toml:7: [[uplink]] renew: \"5s\" is too short; 10 s at least",
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
            id_and("[limits]\npacket_bytes = \"1 MiB\"\nbytes_per_second = \"20 KiB\"\n"),
            "g.toml:4: [limits] packet_bytes: \"1 MiB\" is above 256 KiB, and bytes_per_second below 26 KiB is too slow for such \
             packets: change one of them",
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
fn one_client_id_is_a_fault_only_where_an_upstream_throws_one_of_two_clients_out() {
    let two = |one: &str, other: &str| {
        id_and(&format!(
            "[[uplink]]\nname = \"c\"\nurl = \"{one}\"\nclient_id = \"a\"\n[[uplink]]\nname = \"d\"\nurl = \"{other}\"\nclient_id = \"a\"\n"
        ))
    };
    for (one, other, is_fault) in [
        ("mqtt://a", "mqtt://a", true),
        ("mqtt://a", "mqtt://b", false),
        ("nats://a", "nats://a", false),
        ("mqtt://a", "nats://a:1883", false),
        ("nats://a:1883", "mqtt://a", false),
    ] {
        assert_eq!(read(&two(one, other)).is_err(), is_fault, "{one} and {other}");
    }
}

#[test]
fn what_is_no_regular_file_is_refused_with_words_wherever_a_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("g.toml");
    for (path, why) in regular_file::impostors::all(folder.path()) {
        let said = load(&path, &|_| None).unwrap_err().to_string();
        assert_eq!(said, format!("{}: {why}", path.display()));
        let path = path.display();
        for text in [
            uplink(&format!("user = \"u\"\npassword_file = \"{path}\"\n")),
            uplink(&format!("proxy = \"http://a\"\nproxy_user = \"u\"\nproxy_password_file = \"{path}\"\n")),
            id_and(&format!("[access]\nusers = \"{path}\"\n")),
            id_and(&format!("[access]\nacl = \"{path}\"\n")),
            id_and(&format!(
                "[[listener]]\naddress = \"127.0.0.1:0\"\n[listener.tls]\ncert = \"{path}\"\nkey = \"{path}\"\n"
            )),
        ] {
            std::fs::write(&main, &text).unwrap();
            let said = load(&main, &|_| None).and_then(Settings::complete).unwrap_err().to_string();
            assert!(said.contains(why), "{text}: {said}");
        }
    }
}
