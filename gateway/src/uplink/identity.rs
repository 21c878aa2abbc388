//! As whom an uplink connects: its client id, its user and where its password comes from, read from
//! the keys.

use std::time::Duration;

use super::{
    engine::{
        Client,
        dial::Layers,
        password::{PasswordSource, SecretFile},
        url::host_and_port,
    },
    keys::Keys,
};
use crate::{
    clock,
    keys::{Text, Validator, quantity},
    mqtt::Password,
};

/// The client id, unless told otherwise.
const CLIENT_ID_DEFAULT: &str = "tidegate-{gateway}-{uplink}";
/// What a client id and a user may name.
const KNOWN: &str = "{gateway} and {uplink}";
/// The shortest time between two connections for the sake of a password: less is a mistake, and
/// clouds that limit connects would refuse it.
const RENEW_MIN: Duration = Duration::from_secs(10);
const RENEW_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// What the keys of this uplink say.
pub(super) fn read<'a>(
    validator: &mut Validator<'_>,
    keys: &Keys,
    gateway: &str,
    uplink: &str,
) -> Client<'a> {
    let names = [("gateway", gateway), ("uplink", uplink)];
    let mut expanded = |raw: Option<&Text>| {
        raw.map(|raw| {
            validator.value(Some(raw), String::new(), |text| match text {
                "" => Err("empty; name it, or take the key out".to_owned()),
                text => expand(text, &names),
            })
        })
    };
    let client_id = expanded(keys.client_id.as_ref());
    let user = expanded(keys.user.as_ref());
    let client_id = client_id.unwrap_or_else(|| {
        expand(CLIENT_ID_DEFAULT, &names).expect("invariant: the default names what there is")
    });
    let renew = validator.value(keys.renew.as_ref(), None, |text| {
        let time = quantity::at_most(text, RENEW_MAX, "366 days")?;
        (time >= RENEW_MIN)
            .then_some(Some(time))
            .ok_or_else(|| format!("\"{text}\" is too short; 10 s at least"))
    });
    let password = password(validator, keys, &client_id, uplink);
    Client { host: "", port: 0, layers: Layers::default(), client_id, user, password, renew }
}

/// The password: from a key, else from its file, else from its variable, if there is one.
fn password(
    validator: &mut Validator<'_>,
    keys: &Keys,
    client_id: &str,
    uplink: &str,
) -> Option<PasswordSource> {
    let file = keys.password_file.as_ref().or(keys.azure_key_file.as_ref());
    if let (Some(_), Some(key)) = (&keys.password_file, &keys.azure_key_file) {
        validator.wrong(&key.span(), "\"password_file\" has the password; name one of the two");
        return None;
    }
    if let (None, Some(file)) = (&keys.user, file) {
        validator.wrong(&file.span(), "a password without a user; add \"user\"");
        return None;
    }
    let Some(file) = file else {
        let variable = format!("TIDEGATE_PASSWORD_{}", uplink.to_uppercase().replace('-', "_"));
        let password = keys.user.as_ref().and_then(|_| (validator.around.variable)(&variable));
        return password.map(|password| PasswordSource::Fixed(Password::new(password)));
    };
    let secret = SecretFile::new(validator.around.folder.join(file.get_ref()));
    let source = match &keys.azure_key_file {
        Some(_) => {
            let named = keys.tls.as_ref().and_then(|tls| tls.get_ref().server_name());
            let hub = named.unwrap_or_else(|| host_of(keys.url.get_ref()));
            let resource = format!("{hub}/devices/{client_id}");
            PasswordSource::AzureKey { file: secret, resource }
        }
        None => PasswordSource::File(secret),
    };
    if let Err(error) = source.read(clock::wall_ms()) {
        validator.not_yet(&file.span(), error.to_string());
    }
    Some(source)
}

/// The host in a URL. Of one that cannot be read, more is said elsewhere.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split('/').next().unwrap_or(rest);
    host_and_port(rest, 0).map_or(rest, |(host, _)| host)
}

/// `text` with what stands for each name in braces.
fn expand(text: &str, names: &[(&str, &str)]) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('{') {
        let (name, after) = behind
            .split_once('}')
            .ok_or_else(|| format!("\"{text}\" has a {{ without its }}; known here: {KNOWN}"))?;
        let (_, value) = names
            .iter()
            .find(|(known, _)| *known == name)
            .ok_or_else(|| format!("\"{text}\" names {{{name}}}; known here: {KNOWN}"))?;
        out.push_str(before);
        out.push_str(value);
        rest = after;
    }
    Ok(out + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_braces_is_what_it_stands_for_and_one_that_is_not_known_is_said() {
        let names = [("gateway", "barn-7"), ("uplink", "cloud")];
        for (text, expected) in [
            ("", Some("")),
            ("gate", Some("gate")),
            ("{gateway}", Some("barn-7")),
            ("a/{gateway}-{uplink}/?v=1", Some("a/barn-7-cloud/?v=1")),
            ("{device}", None),
            ("{gateway", None),
        ] {
            assert_eq!(expand(text, &names).ok().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn an_azure_resource_has_the_host_alone() {
        for (url, host) in [
            ("mqtts://hub.example:8883", "hub.example"),
            ("wss://h/path", "h"),
            ("mqtts://[::1]:8883", "::1"),
            ("h", "h"),
        ] {
            assert_eq!(host_of(url), host);
        }
    }
}
