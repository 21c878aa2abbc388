//! As whom an uplink connects: its client id, its user and where its password comes from, read from
//! the keys.

use std::time::Duration;

use super::{
    engine::{
        Client,
        dial::Layers,
        password::{PasswordSource, RENEW_MIN, SecretFile},
    },
    keys::Keys,
    platform::Platform,
};
use crate::{
    keys::{Text, Validator, quantity},
    mqtt::Password,
};

/// The client id, unless told otherwise.
const CLIENT_ID_DEFAULT: &str = "tidegate-{gateway}-{uplink}";
/// What a client id and a user may name.
const KNOWN: &str = "{gateway} and {uplink}";
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
    let by_default = expand(CLIENT_ID_DEFAULT, &names).expect("invariant: the default names what there is");
    let client_id = client_id.unwrap_or_else(|| by_default.clone());
    let renew = validator.value(keys.renew.as_ref(), None, |text| {
        let time = quantity::at_most(text, RENEW_MAX, "366 days")?;
        (time >= RENEW_MIN)
            .then_some(Some(time))
            .ok_or_else(|| format!("\"{text}\" is too short; 10 s at least"))
    });
    let password = password(validator, keys, uplink);
    let platform = Platform::read(validator, keys.platform.as_ref());
    let named = keys.client_id.as_ref().unwrap_or(&keys.name).span();
    platform.check_client_id(validator, &named, &client_id);
    Client {
        host: "",
        port: 0,
        layers: Layers::default(),
        client_id,
        uplink: by_default,
        user,
        password,
        renew,
        platform,
    }
}

/// The password: from its file, else from its variable, if there is one. What an engine makes of a
/// key is its own.
fn password(validator: &mut Validator<'_>, keys: &Keys, uplink: &str) -> Option<PasswordSource> {
    if let (Some(_), Some(key)) = (&keys.password_file, &keys.azure_key_file) {
        validator.wrong(&key.span(), "\"password_file\" has the password; name one of the two");
        return None;
    }
    let file = keys.password_file.as_ref().or(keys.azure_key_file.as_ref());
    if let (None, Some(file)) = (&keys.user, file) {
        validator.wrong(&file.span(), "a password without a user; add \"user\"");
        return None;
    }
    if keys.azure_key_file.is_some() {
        return None;
    }
    let Some(file) = file else {
        let variable = format!("TIDEGATE_PASSWORD_{}", uplink.to_uppercase().replace('-', "_"));
        let password = keys.user.as_ref().and_then(|_| (validator.around.variable)(&variable));
        return password.map(|password| PasswordSource::Fixed(Password::new(password)));
    };
    let secret = SecretFile::new(validator.around.folder.join(file.get_ref()));
    Some(PasswordSource::File(secret).checked(validator, file))
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
}
