//! `tidegate devices add`: a device's credentials, and what to flash.

use std::path::Path;

use tidegate_protocol::{DeviceName, Leaf};

use super::super::{
    Failure,
    users::{self, UsersLocation},
};
use crate::{
    access::{Acl, ClientIds, User, acl::Subject},
    config,
    ingest::Protocol,
    mqtt::password::Password,
};

/// What a device publishes.
const PUBLISHED: [Leaf; 4] = [Leaf::Events, Leaf::Birth, Leaf::Status, Leaf::Reply];
/// Port of MQTT where no listener says another.
const PORT_DEFAULT: u16 = 1883;

/// Make a user with a random password for a device, and print what to flash
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tidegate devices add barn-3 --config /etc/tidegate/gateway.toml
  tidegate devices add barn-3 --config gateway.toml --gateway gateway.farm.example:8883 --json > barn-3.json

The password is shown this once. `tidegate users passwd` sets a new one, `tidegate users remove` locks the device out.")]
pub(super) struct Arguments {
    /// The device's name: 1 to 32 of a-z, 0-9 and -
    name: String,
    /// Where the device finds the gateway, if it is not as the configuration's listener says
    #[arg(long, value_name = "HOST:PORT")]
    gateway: Option<String>,
    /// For scripts
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: UsersLocation,
}

/// What to flash.
#[derive(Debug, serde::Serialize)]
struct Credentials {
    device: String,
    client_id: String,
    user: String,
    password: String,
    gateway: String,
    publish: Vec<String>,
    subscribe: Vec<String>,
}

pub(super) fn run(add: &Arguments) -> Result<(), Failure> {
    let name = DeviceName::new(&add.name).map_err(|cause| Failure::Usage(cause.to_string()))?;
    let file = add.place.users_file()?;
    let password = users::random()?;
    let user = User {
        name: name.as_str().into(),
        password: Some(users::hash(&Password::new(password.as_bytes()))?),
        client_ids: ClientIds::Own,
        roles: vec![],
    };
    users::check_name(name.as_str())?;
    users::add(&file, user)?;
    // Read after the user was added: it may be the first one, and a configuration without the file
    // is none.
    let settings = add.place.config.as_deref().map(load).transpose();
    let topic = |leaf: Leaf| format!("tg/{name}/{}", leaf.level());
    let credentials = Credentials {
        device: name.to_string(),
        client_id: name.to_string(),
        user: name.to_string(),
        password,
        gateway: add
            .gateway
            .clone()
            .unwrap_or_else(|| gateway(settings.as_ref().ok().and_then(Option::as_ref))),
        publish: PUBLISHED.map(topic).into(),
        subscribe: vec![topic(Leaf::Command)],
    };
    print(&credentials, add.json, &file);
    if let Some(settings) = settings? {
        warn_of_rules(&credentials, &settings);
    }
    Ok(())
}

fn load(file: &Path) -> Result<config::Settings, Failure> {
    config::load(file, &|name| std::env::var(name).ok()).map_err(|error| {
        Failure::Config(format!("the user was added, but the gateway will not take it:\n{error}"))
    })
}

/// The listener that others can reach, or the first one. The firmware speaks MQTT without
/// WebSocket.
fn gateway(settings: Option<&config::Settings>) -> String {
    let listeners = settings.map_or(&[][..], |settings| &settings.listeners);
    let mut plain = listeners.iter().filter(|listener| listener.protocol == Protocol::Mqtt);
    let outside = plain.clone().find(|listener| !listener.address.ip().is_loopback());
    match outside.or(plain.next()).map(|listener| listener.address) {
        None => format!("HOST:{PORT_DEFAULT}"),
        Some(address) if address.ip().is_unspecified() => format!("HOST:{}", address.port()),
        Some(address) => address.to_string(),
    }
}

fn print(credentials: &Credentials, json: bool, file: &Path) {
    if json {
        // Text and lists of text always are JSON.
        say!("{}", serde_json::to_string(credentials).unwrap_or_default());
        return;
    }
    let Credentials { device, password, gateway, .. } = credentials;
    let port = gateway.rsplit_once(':').map_or("", |(_, port)| port);
    say!("{device} was added to {}. Flash this; the password is shown this once.", file.display());
    say!("");
    say!("  gateway     {gateway}");
    say!("  device      {device}        its MQTT client id and user name as well");
    say!("  password    {password}");
    say!("  publishes   {}", credentials.publish.join(" "));
    say!("  subscribes  {}", credentials.subscribe.join(" "));
    say!("");
    say!("As arguments of the emulated board (firmware/boards/qemu):");
    say!("  port={port} device={device} password={password}");
}

/// With an access file, a device has what that says and nothing by itself.
fn warn_of_rules(credentials: &Credentials, settings: &config::Settings) {
    let Some(Ok(acl)) = settings.ingest.access.files().acl.as_deref().map(Acl::load) else { return };
    let subject = Subject { identity: &credentials.user, roles: &[], client_id: &credentials.client_id };
    let permissions = acl.permissions(&subject);
    let denied = credentials.publish.iter().filter(|topic| !permissions.may_publish(topic));
    for topic in denied.chain(credentials.subscribe.iter().filter(|topic| !permissions.may_subscribe(topic)))
    {
        remark!("warning: the access file does not allow {topic} to {}; add a rule", credentials.device);
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::access::Users;

    #[test]
    fn a_device_becomes_a_user_of_its_own_client_id_with_a_password_that_holds() {
        let folder = tempfile::tempdir().unwrap();
        let (config, users) = (folder.path().join("g.toml"), folder.path().join("users.toml"));
        let text = "[gateway]\nid = \"a\"\n[access]\nusers = \"users.toml\"\n\
            [[listener]]\naddress = \"0.0.0.0:9001\"\nanonymous = false\nprotocol = \"ws\"\n\
            [[listener]]\naddress = \"127.0.0.1:1999\"\n";
        std::fs::write(&config, text).unwrap();
        let add = |name: &str| {
            let words = ["tidegate", "devices", "add", name, "--json", "--config", config.to_str().unwrap()];
            crate::cli::main(words.map(OsString::from))
        };
        assert_eq!(add("barn-3"), 0);
        assert_eq!(add("barn-3"), 64, "it exists");
        assert_eq!(add("Barn"), 64, "no device name");
        let users = Users::load(&users).unwrap();
        assert_eq!((users.len(), users.get("barn-3").unwrap().client_ids), (1, ClientIds::Own));
        assert_eq!(gateway(Some(&load(&config).unwrap())), "127.0.0.1:1999");
        assert_eq!(gateway(None), "HOST:1883");
    }
}
