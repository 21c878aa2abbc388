//! Where an uplink's password comes from: read before every connect, because tokens end and are
//! replaced while the gateway runs.
//!
//! A password that is a token says when it ends: a JSON Web Token by its claim `exp` (RFC 7519,
//! section 4.1.4), a shared access signature of Azure by its field `se`. Its connection is renewed
//! before that. Nothing else is read from a token, and no signature is checked: that is the
//! upstream's part. A clock that is not set makes a life too long, never a refusal here.
//!
//! Limits: a file of [`PASSWORD_FILE_BYTES_MAX`], a password of [`PASSWORD_BYTES_MAX`].

use std::{
    fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;

use crate::{
    clock,
    keys::{Text, Validator},
    mqtt::Password,
    regular_file,
};

/// Longest password file that is read, in bytes: more than any password, so that one that is too
/// long is told by its length.
pub const PASSWORD_FILE_BYTES_MAX: u64 = 1 << 20;
/// Longest password, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 16 * 1024;
/// How long a signature that is made here holds.
const SIGNATURE_LIFE: Duration = Duration::from_secs(3600);
/// A connection is renewed when this part of its password's life is over.
const RENEWED_AFTER: f64 = 0.8;
/// The shortest time between two connections for the sake of a password: less is a mistake, and
/// clouds that limit connects would refuse it.
pub const RENEW_MIN: Duration = Duration::from_secs(10);
/// What an access signature of Azure begins with.
const SIGNATURE: &str = "SharedAccessSignature ";

/// Where a password comes from.
#[derive(Debug, Clone)]
pub enum PasswordSource {
    /// The environment: the same for as long as the process lives.
    Fixed(Password),
    /// A file.
    File(PathBuf),
    /// A signature that is made with the key in a file. (Azure IoT Hub, "Control access to IoT Hub
    /// by using shared access signatures")
    AzureKey {
        /// The file with the key, in base64.
        file: PathBuf,
        /// What the signature lets in to: `{hub}/devices/{device}`.
        resource: String,
    },
}

/// A password for one connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreshPassword {
    /// The password.
    pub password: Password,
    /// How long it holds from now on, if it says so.
    pub life: Option<Duration>,
}

/// There is no password to connect with. The file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The file cannot be read.
    #[error("{} cannot be read: {cause}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// It is no password for its length.
    #[error("{} holds {bytes} bytes; a password has 1 to {PASSWORD_BYTES_MAX}", file.display())]
    Length {
        /// The file.
        file: PathBuf,
        /// How long what it holds is.
        bytes: usize,
    },
    /// No field of a protocol carries it.
    #[error("the password in {} holds a NUL character: remove it", file.display())]
    Nul {
        /// The file.
        file: PathBuf,
    },
    /// It holds no key.
    #[error("{} holds no key: it has to be the primary or secondary key, in base64, as Azure shows it", file.display())]
    NoKey {
        /// The file.
        file: PathBuf,
    },
}

impl PasswordSource {
    /// Reads or makes the password. `wall_ms` is the time, in milliseconds since 1970. Blocks as
    /// long as the file does.
    ///
    /// # Errors
    /// [`PasswordError`]
    pub fn read(&self, wall_ms: u64) -> Result<FreshPassword, PasswordError> {
        let password = match self {
            Self::Fixed(password) => password.clone(),
            Self::File(file) => Password::new(text_of(file)?),
            Self::AzureKey { file, resource } => {
                let no_key = || PasswordError::NoKey { file: file.clone() };
                let key = BASE64_STANDARD.decode(text_of(file)?).map_err(|_| no_key())?;
                if key.is_empty() {
                    return Err(no_key());
                }
                Password::new(signature(&key, resource, wall_ms / 1000 + SIGNATURE_LIFE.as_secs()))
            }
        };
        let life = str::from_utf8(password.expose()).ok().and_then(ends_at_s);
        let life = life.map(|end| Duration::from_millis(end.saturating_mul(1000).saturating_sub(wall_ms)));
        Ok(FreshPassword { password, life })
    }

    /// The same, for a task: the file may be on a disk that makes it wait.
    ///
    /// # Errors
    /// [`io::Error`], with a [`PasswordError`] in it.
    pub async fn read_now(&self) -> io::Result<FreshPassword> {
        let (source, wall_ms) = (self.clone(), clock::wall_ms());
        let read = tokio::task::spawn_blocking(move || source.read(wall_ms));
        read.await.map_err(io::Error::other)?.map_err(io::Error::other)
    }

    /// The same source, read once for whoever checks the keys: why it gives no password is noted at
    /// the key that names its file.
    pub(in crate::uplink) fn checked(self, validator: &mut Validator<'_>, key: &Text) -> Self {
        validator.password_files.extend(self.file().map(Path::to_owned));
        if let Err(error) = self.read(clock::wall_ms()) {
            validator.wrong(&key.span(), error.to_string());
        }
        self
    }

    /// Its file, if it has one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Fixed(_) => None,
            Self::File(file) | Self::AzureKey { file, .. } => Some(file),
        }
    }
}

impl fmt::Display for PasswordSource {
    /// Where it comes from; never what it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(_) => f.write_str("a password of the environment"),
            Self::File(file) => write!(f, "the password in {}", file.display()),
            Self::AzureKey { file, resource } => {
                write!(f, "signatures for {resource} by the key in {}", file.display())
            }
        }
    }
}

impl FreshPassword {
    /// When to renew the connection that is made with it: after `renew`, if that was set, and
    /// before its life is over in any case.
    #[must_use]
    pub fn renew_after(&self, renew: Option<Duration>) -> Option<Duration> {
        // One that is over, or soon is, and that nobody has replaced: connecting anew brings no
        // other, and whether it still lets in is the upstream's to judge.
        let life = self.life.map(|life| life.mul_f64(RENEWED_AFTER)).filter(|after| *after >= RENEW_MIN);
        renew.into_iter().chain(life).min()
    }
}

fn text_of(file: &Path) -> Result<String, PasswordError> {
    let text = regular_file::read_text(file, PASSWORD_FILE_BYTES_MAX)
        .map_err(|cause| PasswordError::Unreadable { file: file.to_owned(), cause })?;
    let text = text.trim_end_matches(['\r', '\n']).to_owned();
    if !(1..=PASSWORD_BYTES_MAX).contains(&text.len()) {
        return Err(PasswordError::Length { file: file.to_owned(), bytes: text.len() });
    }
    if text.contains('\0') {
        return Err(PasswordError::Nul { file: file.to_owned() });
    }
    Ok(text)
}

/// When a token ends, in seconds since 1970, if it is one that says so.
fn ends_at_s(password: &str) -> Option<u64> {
    if let Some(fields) = password.strip_prefix(SIGNATURE) {
        return form_urlencoded::parse(fields.as_bytes())
            .find(|(name, _)| name == "se")
            .and_then(|(_, end)| end.parse().ok());
    }
    /// The claims of a JSON Web Token that are looked at.
    #[derive(Deserialize)]
    struct Claims {
        exp: f64,
    }
    let mut parts = password.split('.');
    let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let claims: Claims = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    (claims.exp > 0.0).then_some(claims.exp as u64)
}

/// An access signature for `resource` that holds until `end_s`.
fn signature(key: &[u8], resource: &str, end_s: u64) -> String {
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let resource = encoded(resource);
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key);
    let signed = ring::hmac::sign(&key, format!("{resource}\n{end_s}").as_bytes());
    format!("{SIGNATURE}sr={resource}&sig={}&se={end_s}", encoded(&BASE64_STANDARD.encode(signed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_700_000_000_000;

    fn jwt(claims: &str) -> String {
        format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims))
    }

    fn fixed(password: &str) -> FreshPassword {
        PasswordSource::Fixed(Password::new(password)).read(NOW_MS).unwrap()
    }

    #[test]
    fn a_token_says_when_it_ends_and_what_is_no_token_does_not() {
        let in_100_s = Some(Duration::from_secs(100));
        for (password, life) in [
            (jwt(r#"{"sub":"gate","exp":1700000100}"#), in_100_s),
            (jwt(r#"{"exp":1.7000001e9}"#), in_100_s),
            (jwt(r#"{"exp":1600000000}"#), Some(Duration::ZERO)),
            (jwt(r#"{"exp":"soon"}"#), None),
            (jwt(r#"{"exp":-5}"#), None),
            (jwt("{}"), None),
            ("SharedAccessSignature sr=hub&sig=x%3D&se=1700000100".to_owned(), in_100_s),
            ("SharedAccessSignature sr=hub&sig=x%3D".to_owned(), None),
            ("a.b.c".to_owned(), None),
            ("correct.horse".to_owned(), None),
            ("hunter2".to_owned(), None),
        ] {
            assert_eq!(fixed(&password).life, life, "{password}");
        }
    }

    #[test]
    fn a_connection_is_renewed_at_four_fifths_of_a_life_or_when_it_was_said() {
        let minutes = |minutes: u64| Some(Duration::from_secs(60 * minutes));
        let fresh = |life| FreshPassword { password: Password::new("p"), life };
        for (life, renew, after) in [
            (minutes(100), None, minutes(80)),
            (minutes(100), minutes(50), minutes(50)),
            (minutes(100), minutes(90), minutes(80)),
            (None, minutes(50), minutes(50)),
            (None, None, None),
            (minutes(0), None, None),
            (Some(Duration::from_secs(20)), None, Some(Duration::from_secs(16))),
            // Nobody has replaced it.
            (Some(Duration::from_secs(4)), None, None),
        ] {
            assert_eq!(fresh(life).renew_after(renew), after, "{life:?} {renew:?}");
        }
    }

    #[test]
    fn a_signature_is_what_azure_computes() {
        // `echo -ne 'hub.example%2Fdevices%2Fgate\n1700003600' | openssl dgst -sha256 -hmac key -binary | base64`
        let made = signature(b"key", "hub.example/devices/gate", 1_700_003_600);
        assert_eq!(
            made,
            "SharedAccessSignature sr=hub.example%2Fdevices%2Fgate&sig=Z80TltGf0X2EgxGRwQ%2FByPnBJNj1aHCKBOh%2Fk8Ao9b0%3D&se=1700003600"
        );
    }

    #[test]
    fn a_password_is_read_each_time_and_what_is_none_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let source = PasswordSource::File(file.clone());
        let read = || source.read(NOW_MS).map(|fresh| fresh.password).map_err(|error| error.to_string());
        assert!(read().unwrap_err().contains("token cannot be read"));
        std::fs::write(&file, "one\r\n").unwrap();
        assert_eq!(read(), Ok(Password::new("one")));
        std::fs::write(&file, "two").unwrap();
        assert_eq!(read(), Ok(Password::new("two")));
        for (content, why) in [
            (String::new(), "holds 0 bytes"),
            ("\n".to_owned(), "holds 0 bytes"),
            ("x".repeat(PASSWORD_BYTES_MAX + 1), "holds 16385 bytes"),
            ("a\0b".to_owned(), "NUL"),
        ] {
            std::fs::write(&file, content).unwrap();
            assert!(read().unwrap_err().contains(why), "{why}");
        }
        let key = PasswordSource::AzureKey { file: file.clone(), resource: "hub/devices/d".to_owned() };
        std::fs::write(&file, "not base64!").unwrap();
        assert!(key.read(NOW_MS).unwrap_err().to_string().contains("holds no key"));
        std::fs::write(&file, "a2V5\n").unwrap();
        assert_eq!(key.read(NOW_MS).unwrap().life, Some(SIGNATURE_LIFE));
    }
}
