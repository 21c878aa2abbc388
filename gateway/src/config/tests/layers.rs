//! What lies between TCP and an uplink's protocol: TLS, a WebSocket, a proxy.

use super::*;

/// An uplink with these keys, its URL among them.
fn layered(keys: &str) -> String {
    format!("{ID}[[uplink]]\nname = \"cloud\"\n{keys}")
}

#[test]
fn the_scheme_says_which_layers_there_are_and_which_port_is_meant() {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    let certified = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
    std::fs::write(&ca, certified.cert.pem()).unwrap();
    let tls = format!("tls = {{ ca = {:?} }}\n", ca.display().to_string());
    for (url, shown, tls) in [
        ("mqtt://a", "mqtt://a:1883", ""),
        ("mqtts://a", "mqtts://a:8883", &*tls),
        ("mqtts://[::1]", "mqtts://[::1]:8883", &*tls),
        ("ws://a", "ws://a:80/mqtt", ""),
        ("wss://a/", "wss://a:443/", &*tls),
        ("wss://a:8084/b/c?d=e", "wss://a:8084/b/c?d=e", &*tls),
    ] {
        let settings = read(&layered(&format!("url = \"{url}\"\n{tls}"))).unwrap();
        assert_eq!(settings.uplinks[0].upstream.url(), shown);
        assert_eq!(settings.uplinks[0].upstream.tls().is_some(), !tls.is_empty());
    }
}

#[test]
fn what_is_wrong_with_a_layer_is_said_at_its_key() {
    for (keys, expected) in [
        (
            "url = \"mqtt://a\"\ntls = { ca = \"ca.pem\" }\n",
            "g.toml:6: [[uplink]] tls: the url has no TLS: write mqtts:// there, or remove this",
        ),
        (
            "url = \"ws://a\"\ntls = { alpn = [\"mqtt\"] }\n",
            "g.toml:6: [[uplink]] tls: the url has no TLS: write wss:// there, or remove this",
        ),
        (
            "url = \"nats://a\"\ntls = { ca = \"ca.pem\" }\n",
            "g.toml:6: [[uplink]] tls: this version knows no TLS for nats://: remove this",
        ),
        (
            "url = \"mqtts://::1:28883\"\n",
            "g.toml:5: [[uplink]] url: \"mqtts://::1:28883\" has more than one colon: an address of IPv6 stands in \
             brackets, like [::1] or [::1]:8883; write it like \"mqtt://broker.example:1883\"",
        ),
        (
            "url = \"mqtt://a\"\nproxy = \"http://::1:3128\"\n",
            "g.toml:6: [[uplink]] proxy: \"http://::1:3128\" has more than one colon: an address of IPv6 stands in \
             brackets, like [::1] or [::1]:8883; write it like \"http://proxy.example:3128\"",
        ),
        (
            "url = \"mqtts://a\"\ntls = { ca = \"no-such.pem\" }\n",
            "g.toml:6: [[uplink]] tls.ca: no-such.pem: the file cannot be read: No such file or directory (os error 2)",
        ),
        (
            "url = \"mqtts://a\"\ntls = { cert = \"gate.pem\" }\n",
            "g.toml:6: [[uplink]] tls.cert: a client certificate is cert and key; name both, or none",
        ),
        (
            "url = \"mqtts://a\"\ntls = { ca = \"Cargo.toml\" }\n",
            "g.toml:6: [[uplink]] tls.ca: Cargo.toml: the file holds nothing in PEM and no certificate; \
             a PEM file with a certificate is needed here",
        ),
        (
            "url = \"mqtts://a\"\ntls = { cart = \"gate.pem\" }\n",
            "g.toml:6: [[uplink]] tls.cart: unknown key \"cart\"; did you mean \"ca\"?",
        ),
        (
            "url = \"mqtt://a/b\"\n",
            "g.toml:5: [[uplink]] url: \"mqtt://a/b\" has a path, which ws:// and wss:// alone can have; \
             write it like \"mqtt://broker.example:1883\"",
        ),
        (
            "url = \"mqtt://a\"\nproxy = \"https://p\"\n",
            "g.toml:6: [[uplink]] proxy: \"https://p\" is no address of an HTTP proxy; \
             write it like \"http://proxy.example:3128\"",
        ),
        (
            "url = \"mqtt://a\"\nproxy = \"http://u:p@p\"\n",
            "g.toml:6: [[uplink]] proxy: no user or password in the address: name them by \"proxy_user\" and \
             \"proxy_password_file\"",
        ),
        (
            "url = \"mqtt://a\"\nproxy_user = \"u\"\n",
            "g.toml:6: [[uplink]] proxy_user: a login for no proxy; add \"proxy\", or remove this",
        ),
        (
            "url = \"mqtt://a\"\nproxy = \"http://p\"\nproxy_user = \"u\"\n",
            "g.toml:7: [[uplink]] proxy_user: a user without a password; add \"proxy_password_file\"",
        ),
    ] {
        assert_eq!(problems(&layered(keys)), expected);
    }
    let alpn = ["\"x\""; 9].join(", ");
    let many = problems(&layered(&format!("url = \"mqtts://a\"\ntls = {{ alpn = [{alpn}] }}\n")));
    assert!(many.contains("g.toml:6: [[uplink]] tls.alpn: 9 protocols are too many; 8 at most"), "{many}");
    let name = problems(&layered("url = \"mqtts://a\"\ntls = { ca = \"ca.pem\", server_name = \"a b\" }\n"));
    assert!(name.contains("tls.server_name: \"a b\" is no name of a server"), "{name}");
}
